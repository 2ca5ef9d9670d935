//! What every page has around its own part, and the headers that every page is sent with.

use askama::Template;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    SET_COOKIE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::assets::Assets;
use super::locale::{Locale, switched};
use super::texts::Texts;
use crate::App;
use crate::error::ApiError;
use crate::language::Language;

/// Everything comes from here, nothing stands in the page itself, and nobody frames it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);
/// Other shops learn nothing of ours; our own forms say where they come from.
const REFERRERS: HeaderValue = HeaderValue::from_static("same-origin");

/// What the pages of a process share.
pub(crate) struct Storefront {
    pub(crate) assets: Assets,
    pub(crate) shop_name: String,
}

/// Where a page stands in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Products,
    Rankings,
    Likes,
    Orders,
    None,
}

impl Section {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Rankings => "rankings",
            Self::Likes => "likes",
            Self::Orders => "orders",
            Self::None => "",
        }
    }
}

/// A link to the same page in another language.
pub(super) struct Switch {
    pub(super) tag: &'static str,
    pub(super) name: &'static str,
    pub(super) href: String,
    pub(super) is_current: bool,
}

/// Around the page's own part.
pub(super) struct Frame<'a> {
    pub(super) t: &'static Texts,
    pub(super) lang: &'static str,
    pub(super) shop: &'a str,
    pub(super) assets: &'a Assets,
    pub(super) title: String,
    pub(super) search: String,
    pub(super) search_max: usize,
    pub(super) switches: [Switch; 2],
    section: Section,
}

impl<'a> Frame<'a> {
    /// Around a page of this title, which is at `here`.
    pub(super) fn new(app: &'a App, locale: Locale, here: &Uri, section: Section, title: String) -> Self {
        let language = locale.language;
        let switches = Language::ALL.map(|choice| Switch {
            tag: choice.tag(),
            name: choice.own_name(),
            href: switched(here, choice),
            is_current: choice == language,
        });
        Self {
            t: Texts::of(language),
            lang: language.tag(),
            shop: &app.storefront.shop_name,
            assets: &app.storefront.assets,
            title,
            search: String::new(),
            search_max: app.settings.search_bytes_max,
            switches,
            section,
        }
    }

    pub(super) fn is_at(&self, section: &str) -> bool {
        self.section.as_str() == section
    }
}

/// How long a page may be kept: one that shows what is the buyer's own, not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    Asked,
    Never,
}

/// The page as it is sent.
pub(super) fn send(
    status: StatusCode,
    locale: Locale,
    keeping: Keeping,
    page: &impl Template,
) -> Result<Response, ApiError> {
    let html = page.render().map_err(|error| ApiError::Internal(error.into()))?;
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(locale.language.tag()));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, REFERRERS);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let keeping = match keeping {
        Keeping::Asked => "private, no-cache",
        Keeping::Never => "no-store",
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keeping));
    headers.insert(VARY, HeaderValue::from_static("accept-language, cookie"));
    if let Some(cookie) = locale.cookie() {
        headers.append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Sends the browser on to a page of ours after a form.
pub(super) fn see_other(path: &str) -> Result<Response, ApiError> {
    let path = HeaderValue::from_str(path).map_err(|error| ApiError::Internal(error.into()))?;
    Ok((StatusCode::SEE_OTHER, [(LOCATION, path), (CACHE_CONTROL, HeaderValue::from_static("no-store"))])
        .into_response())
}
