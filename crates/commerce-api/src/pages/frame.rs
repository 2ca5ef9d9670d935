//! What every page has around its own part, and the headers that every page is sent with.

use std::time::Duration;

use askama::Template;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    SET_COOKIE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::assets::Assets;
use super::cookies::Cookies;
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
    pub(crate) cookies: Cookies,
    pub(crate) session_lifetime: Duration,
}

/// What a page says about who looks at it.
pub(super) enum Account {
    /// With the seal of the page's forms, where they have one.
    SignedIn { seal: Option<String> },
    /// With where to sign in, where that is ours to say.
    Stranger { sign_in: Option<String> },
    /// It cannot be told now, or does not matter.
    Unknown,
}

/// Where a page stands in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Products,
    Rankings,
    Likes,
    Orders,
    SignIn,
    None,
}

impl Section {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Rankings => "rankings",
            Self::Likes => "likes",
            Self::Orders => "orders",
            Self::SignIn => "sign-in",
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
    pub(super) account: Account,
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
            account: Account::Unknown,
            section,
        }
    }

    /// Where a stranger signs in.
    pub(super) fn sign_in(&self) -> Option<&str> {
        match &self.account {
            Account::Stranger { sign_in } => sign_in.as_deref(),
            Account::SignedIn { .. } | Account::Unknown => None,
        }
    }

    /// The seal of this page's forms.
    pub(super) fn seal(&self) -> Option<&str> {
        match &self.account {
            Account::SignedIn { seal } => seal.as_deref(),
            Account::Stranger { .. } | Account::Unknown => None,
        }
    }

    pub(super) fn is_signed_in(&self) -> bool {
        matches!(self.account, Account::SignedIn { .. })
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.account, Account::Unknown)
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
