//! The style sheet, the script and the icon: compiled in, and named by what they hold, so that browsers keep them for good.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::App;
use crate::error::ApiError;

/// Under which they are.
const FOLDER: &str = "/assets/";
/// Bytes of the digest in a name: enough to tell versions of one file apart.
const DIGEST_BYTES: usize = 8;

/// A file.
pub(crate) struct Asset {
    /// Changes with the content.
    pub(crate) path: String,
    content: &'static str,
    media_type: HeaderValue,
}

/// All files.
pub(crate) struct Assets {
    pub(crate) style: Asset,
    pub(crate) script: Asset,
    pub(crate) icon: Asset,
}

impl Asset {
    fn new(name: &str, extension: &str, media_type: &'static str, content: &'static str) -> Self {
        let digest = Sha256::digest(content.as_bytes());
        let mut path = format!("{FOLDER}{name}.");
        for byte in digest.iter().take(DIGEST_BYTES) {
            write!(path, "{byte:02x}").expect("a String takes what is written");
        }
        path.push('.');
        path.push_str(extension);
        Self { path, content, media_type: HeaderValue::from_static(media_type) }
    }
}

impl Assets {
    /// The files as they were compiled in.
    pub(crate) fn new() -> Self {
        let style = include_str!("../../assets/shop.css");
        let script = include_str!("../../assets/shop.js");
        let icon = include_str!("../../assets/icon.svg");
        Self {
            style: Asset::new("shop", "css", "text/css; charset=utf-8", style),
            script: Asset::new("shop", "js", "text/javascript; charset=utf-8", script),
            icon: Asset::new("icon", "svg", "image/svg+xml", icon),
        }
    }

    fn find(&self, name: &str) -> Option<&Asset> {
        let assets = [&self.style, &self.script, &self.icon];
        assets.into_iter().find(|asset| asset.path.strip_prefix(FOLDER) == Some(name))
    }
}

/// `GET /assets/{name}`.
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let asset = app.storefront.assets.find(&name).ok_or(ApiError::NoRoute)?;
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, asset.media_type.clone()),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, asset.content).into_response())
}
