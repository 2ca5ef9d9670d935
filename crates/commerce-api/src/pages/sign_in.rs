//! `/sign-in` and `/sign-out`, where a token says who calls: a buyer shows it once and has a session from then on.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;

use super::cookies::Purpose;
use super::frame::{Frame, Keeping, Section, see_other, send};
use super::shopper::Shopper;
use super::submission::{Entry, NoFields, Submission};
use crate::App;
use crate::domain::secret::Secret;
use crate::error::ApiError;
use crate::routes::extract::Parameters;
use crate::settings::AuthMode;

/// Bytes of the path that is gone on to.
const NEXT_BYTES_MAX: usize = 1_000;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: Frame<'a>,
    seal: String,
    next: String,
    refusal: Option<&'static str>,
}

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SignInForm {
    token: String,
    next: String,
}

/// Where a stranger signs in and comes back to `here`.
pub(super) fn sign_in_link(here: &Uri) -> String {
    let next = here.path_and_query().map_or("/", |next| next.as_str());
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    format!("/sign-in?{query}")
}

/// A path of this shop, else its first page: nobody is sent elsewhere by a link to us.
fn own_path(next: &str) -> &str {
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_own = next.starts_with('/') && !next.starts_with("//");
    if is_plain && is_own && next.len() <= NEXT_BYTES_MAX { next } else { "/" }
}

/// `GET /sign-in`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    shopper: Shopper,
    Parameters(Next { next }): Parameters<Next>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if app.auth.mode == AuthMode::Gateway {
        return Err(ApiError::NoRoute);
    }
    let next = own_path(next.as_deref().unwrap_or("/"));
    if shopper.secret.is_some() {
        return see_other(next);
    }
    let entry = app.storefront.cookies.find(&headers, Purpose::Entry);
    page(&app, &shopper, entry, next, StatusCode::OK, None)
}

/// `POST /sign-in`.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    shopper: Shopper,
    headers: HeaderMap,
    Entry(form): Entry<SignInForm>,
) -> Result<Response, ApiError> {
    let t = shopper.texts();
    let next = own_path(&form.next);
    let refuse = |status, why| {
        let entry = app.storefront.cookies.find(&headers, Purpose::Entry);
        page(&app, &shopper, entry, next, status, Some(why))
    };
    let grant = match app.tokens.check(form.token.trim()).await {
        Ok(grant) if grant.scopes.is_buyer => grant,
        Ok(_) => return refuse(StatusCode::FORBIDDEN, t.token_not_buyers),
        Err(ApiError::Unauthenticated) => return refuse(StatusCode::UNAUTHORIZED, t.token_wrong),
        Err(error) => return Err(error),
    };
    let cookies = app.storefront.cookies;
    let earlier = cookies.find(&headers, Purpose::Session);
    let secret = app.sessions.begin(grant.token_id, earlier.as_ref()).await?;
    let mut response = see_other(next)?;
    let lifetime = Some(app.storefront.session_lifetime);
    response.headers_mut().append(SET_COOKIE, cookies.keep(Purpose::Session, &secret, lifetime)?);
    response.headers_mut().append(SET_COOKIE, cookies.forget(Purpose::Entry)?);
    Ok(response)
}

/// `POST /sign-out`.
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    shopper: Shopper,
    Submission(NoFields {}): Submission<NoFields>,
) -> Result<Response, ApiError> {
    let secret = shopper.secret.ok_or(ApiError::NoRoute)?;
    app.sessions.end(&secret).await?;
    let mut response = see_other("/")?;
    response.headers_mut().append(SET_COOKIE, app.storefront.cookies.forget(Purpose::Session)?);
    Ok(response)
}

/// The form, sealed by the browser's entry secret, or by a new one.
fn page(
    app: &App,
    shopper: &Shopper,
    entry: Option<Secret>,
    next: &str,
    status: StatusCode,
    refusal: Option<&'static str>,
) -> Result<Response, ApiError> {
    let no_bytes = |error: getrandom::Error| ApiError::Internal(error.into());
    let (entry, is_new) = match entry {
        Some(entry) => (entry, false),
        None => (Secret::random().map_err(no_bytes)?, true),
    };
    let page = SignInPage {
        frame: shopper.frame(app, Section::SignIn, shopper.texts().sign_in.to_owned())?,
        seal: entry.seal().map_err(no_bytes)?,
        next: next.to_owned(),
        refusal,
    };
    let mut response = send(status, shopper.locale, Keeping::Never, &page)?;
    if is_new {
        let cookie = app.storefront.cookies.keep(Purpose::Entry, &entry, None)?;
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::{NEXT_BYTES_MAX, own_path, sign_in_link};

    #[test]
    fn a_buyer_is_sent_on_to_this_shop_only() {
        for own in ["/", "/orders/7", "/?q=%EC%BB%B5&page=2", "/products/1?x=https://evil"] {
            assert_eq!(own_path(own), own);
        }
        let long = format!("/{}", "a".repeat(NEXT_BYTES_MAX));
        for other in [
            "",
            "orders",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            " /orders",
            "/컵",
            "/\r\nset-cookie: a=b",
            &long,
        ] {
            assert_eq!(own_path(other), "/", "{other:?}");
        }
        assert_eq!(sign_in_link(&"/?q=a&page=1".parse().unwrap()), "/sign-in?next=%2F%3Fq%3Da%26page%3D1");
    }
}
