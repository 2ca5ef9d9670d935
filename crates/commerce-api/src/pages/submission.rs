//! A form that a page of ours sent: the only way in which a page's handler gets at a body.
//!
//! A browser sends the buyer's identity with whatever makes it send a request, so each form has to prove that a page of this
//! shop made it (cross-site request forgery): the browser says so, and the form shows a seal that only the session's secret can
//! make. Where a gateway says who calls, the secret is the gateway's business, and the browser's word has to do.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use serde::de::DeserializeOwned;

use super::cookies::Purpose;
use super::shopper::find_session;
use crate::App;
use crate::domain::InvalidInput;
use crate::domain::secret::Secret;
use crate::error::ApiError;
use crate::routes::extract::body;
use crate::settings::AuthMode;

/// Where a request comes from, as browsers say it to secure origins.
const FETCH_SITE: &str = "sec-fetch-site";

/// The field of a form that holds its seal.
const SEAL: &str = "csrf";

/// The fields of a form of ours, sent by whoever was shown it.
pub(super) struct Submission<T>(pub(super) T);

/// The fields of the form by which a stranger signs in: sealed as well, so that nobody is signed in as somebody else.
pub(super) struct Entry<T>(pub(super) T);

/// A form without fields.
#[derive(serde::Deserialize)]
pub(super) struct NoFields {}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Submission<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        if !is_own(request.headers()) {
            return Err(ApiError::Forbidden);
        }
        let secret = match app.auth.mode {
            AuthMode::Gateway => None,
            AuthMode::Token => {
                let found = find_session(app, request.headers()).await?;
                Some(found.ok_or(ApiError::Unauthenticated)?.0)
            }
        };
        Ok(Self(read(request, app, secret.as_ref()).await?))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Entry<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        if app.auth.mode == AuthMode::Gateway {
            return Err(ApiError::NoRoute);
        }
        let secret = app.storefront.cookies.find(request.headers(), Purpose::Entry);
        let secret = secret.filter(|_| is_own(request.headers())).ok_or(ApiError::Forbidden)?;
        Ok(Self(read(request, app, Some(&secret)).await?))
    }
}

/// The fields of a form whose seal is this secret's.
async fn read<T: DeserializeOwned>(
    request: Request,
    app: &Arc<App>,
    secret: Option<&Secret>,
) -> Result<T, ApiError> {
    let (parts, bytes) = request.into_parts();
    let bytes = body(Request::from_parts(parts.clone(), bytes), app).await?;
    let is_sealed = |secret: &Secret| seal(&bytes).is_some_and(|seal| secret.has_sealed(&seal));
    if !secret.is_none_or(is_sealed) {
        return Err(ApiError::Forbidden);
    }
    let request = Request::from_parts(parts, Body::from(bytes));
    let Form(fields) =
        Form::<T>::from_request(request, app).await.map_err(|rejection| refusal(&rejection))?;
    Ok(fields)
}

fn seal(bytes: &Bytes) -> Option<String> {
    form_urlencoded::parse(bytes).find(|(name, _)| name == SEAL).map(|(_, seal)| seal.into_owned())
}

fn refusal(rejection: &FormRejection) -> ApiError {
    match rejection {
        FormRejection::InvalidFormContentType(_) => ApiError::UnsupportedMediaType,
        _ => InvalidInput::Body.into(),
    }
}

/// Whether the browser says that the request comes from a page of this origin. Every browser says it in one of two headers;
/// who says nothing is no browser with a form of ours.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(FETCH_SITE) {
        return site == "same-origin";
    }
    let host = text(HOST.as_str()).unwrap_or_default();
    let origin = text(ORIGIN.as_str()).unwrap_or_default();
    let origin = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    !host.is_empty() && origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::is_own;

    #[test]
    fn only_a_page_of_this_origin_sends_a_form() {
        for (headers, expected) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "null"), ("host", "shop")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://shop"), ("host", "shop")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "")], false),
            (vec![("origin", "https://shop:8080"), ("host", "shop:8080")], true),
            (vec![("origin", "http://SHOP"), ("host", "shop")], true),
            (vec![("origin", "http://shop.evil"), ("host", "shop")], false),
            (vec![("origin", "http://evil"), ("host", "shop")], false),
            (vec![("origin", "http://shop:81"), ("host", "shop:80")], false),
            (vec![("origin", "null"), ("host", "null")], false),
            (vec![("origin", "http://"), ("host", "")], false),
            (vec![("host", "shop")], false),
            (vec![], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(is_own(&map), expected, "{headers:?}");
        }
    }
}
