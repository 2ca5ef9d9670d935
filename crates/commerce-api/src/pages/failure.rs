//! What a person sees instead of a page: what happened, what can be done, and the same code that machines get.

use std::time::Duration;

use askama::Template;
use axum::extract::Request;
use axum::http::header::{ACCEPT, RETRY_AFTER};
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;

use super::frame::{Frame, Keeping, Section, send};
use super::locale::Locale;
use super::sign_in::sign_in_link;
use super::texts::{Texts, fill};
use crate::App;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::routes::envelope::wait;
use crate::settings::AuthMode;

/// Paths of machines: whoever asks there gets what machines read.
const FOR_MACHINES: [&str; 3] = ["/api/", "/api-admin/", "/openapi.json"];

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    frame: Frame<'a>,
    heading: &'static str,
    hint: String,
    code: String,
    sign_in: Option<String>,
}

/// A person who may have to be told why there is no page.
pub(crate) struct Reader {
    locale: Locale,
    here: Uri,
    /// The page can be asked for again.
    is_get: bool,
}

impl Reader {
    /// The person who sent `request`, if a browser sent it for one.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        if FOR_MACHINES.iter().any(|path| request.uri().path().starts_with(path)) {
            return None;
        }
        let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok())?;
        let here = request.uri().clone();
        let locale = Locale::of(&here, request.headers());
        let is_get = request.method() == Method::GET;
        accepted.contains("text/html").then_some(Self { locale, here, is_get })
    }

    /// The page about `error`.
    ///
    /// # Errors
    /// When it cannot be put together, which is a bug.
    pub(crate) fn page(
        &self,
        app: &App,
        error: &ApiError,
        retry_after: Duration,
    ) -> Result<Response, ApiError> {
        let code = error.code();
        let language = self.locale.language;
        let t = Texts::of(language);
        let (heading, hint) = explanation(code, t);
        let hint = hint.map_or_else(|| sentence(code.message(language)), str::to_owned);
        let frame = Frame::new(app, self.locale, &self.here, Section::None, heading.to_owned());
        let asks_who = code == ErrorCode::Unauthenticated && app.auth.mode == AuthMode::Token;
        let back = if self.is_get { self.here.clone() } else { Uri::from_static("/") };
        let sign_in = asks_who.then(|| sign_in_link(&back));
        let page = FailurePage { frame, heading, hint, code: fill(t.error_code, code.as_str()), sign_in };
        let mut response = send(code.status(), self.locale, Keeping::Never, &page)?;
        if let Some(wait) = wait(error, retry_after) {
            response.headers_mut().insert(RETRY_AFTER, wait);
        }
        Ok(response)
    }
}

/// Heading and hint; without a hint the message of the code is one.
fn explanation(code: ErrorCode, t: &'static Texts) -> (&'static str, Option<&'static str>) {
    match code.status() {
        StatusCode::UNAUTHORIZED => (t.unauthenticated, Some(t.unauthenticated_hint)),
        StatusCode::FORBIDDEN => (t.forbidden, Some(t.forbidden_hint)),
        StatusCode::NOT_FOUND => (t.not_found, Some(t.not_found_hint)),
        StatusCode::TOO_MANY_REQUESTS => (t.too_many, Some(t.too_many_hint)),
        StatusCode::SERVICE_UNAVAILABLE => (t.unavailable, Some(t.unavailable_hint)),
        StatusCode::INTERNAL_SERVER_ERROR => (t.internal, Some(t.internal_hint)),
        _ => (t.bad_request, None),
    }
}

/// A message of the table as a sentence.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).chain(['.']).collect()
}
