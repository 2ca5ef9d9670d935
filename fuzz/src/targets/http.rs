//! Everything that a client of the api can send: bodies, queries, forms, headers. A request goes through the very router of the server; the
//! database is closed, so that what is valid is answered with 503, and products are in the cache, so that there are pages to show.

mod request;
mod shop;

use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::first_line;
use shop::{Answer, Caller, ask};
pub(super) use shop::{api, cache, closed_pool};

use request::Asked;

/// Routes whose bodies are JSON: `POST /path` in the first line, the body behind it.
pub(super) fn bodies(input: &[u8]) {
    let (head, body) = first_line(input);
    let Some(asked) = Asked::of_line(head) else { return };
    if !matches!(asked.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
        return;
    }
    let asked = asked.header("content-type", "application/json").body(body);
    let Some(answer) = ask(Caller::Merchant, &asked) else { return };
    answer.check();
    if answer.status == StatusCode::SERVICE_UNAVAILABLE && takes_body(&asked) {
        let json: Value = serde_json::from_slice(body).expect("a body that is taken is JSON");
        assert!(is_of_objects(&json), "a body that is taken is made of objects: {json}");
    }
}

fn takes_body(asked: &Asked<'_>) -> bool {
    let path = asked.uri.path();
    path.starts_with("/api-admin/") || path == "/api/v1/orders"
}

/// An object, and so are the items of its lists.
fn is_of_objects(json: &Value) -> bool {
    json.as_object()
        .is_some_and(|fields| fields.values().filter_map(Value::as_array).flatten().all(Value::is_object))
}

/// Paths and queries, asked for by a machine and by people.
pub(super) fn queries(input: &[u8]) {
    let Some(asked) = Asked::of_path(Method::GET, input) else { return };
    for caller in [Caller::Stranger, Caller::Buyer, Caller::TokenStranger] {
        let Some(answer) = ask(caller, &asked) else { return };
        answer.check();
    }
}

/// Forms of the storefront: the path in the first line, the form behind it. Who signs in has a seal for the cookie that is shown.
pub(super) fn forms(input: &[u8]) {
    let (path, form) = first_line(input);
    let Some(asked) = Asked::of_path(Method::POST, path) else { return };
    let asked = asked
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .body(form);
    for caller in [Caller::Buyer, Caller::TokenEntry] {
        let Some(answer) = ask(caller, &asked) else { return };
        answer.check();
    }
}

/// Headers by which callers are known, and all others: a request without its version, its lines and its body.
pub(super) fn headers(input: &[u8]) {
    let Some(asked) = Asked::of_request(input) else { return };
    for caller in [Caller::Bare, Caller::BareToken] {
        let Some(answer) = ask(caller, &asked) else { return };
        answer.check();
        if needs_a_buyer(&asked) {
            assert!(!answer.status.is_success(), "{caller:?} is nobody: {answer:?}");
            let is_asked_about = caller == Caller::BareToken && shows_a_secret(&asked);
            assert!(answer.status.is_client_error() || is_asked_about, "{caller:?} is nobody: {answer:?}");
        }
    }
}

fn needs_a_buyer(asked: &Asked<'_>) -> bool {
    let path = asked.uri.path();
    ["/api/v1/like", "/api/v1/orders", "/api-admin/", "/likes", "/orders"]
        .iter()
        .any(|own| path.starts_with(own))
}

/// Only what looks like a token or a session is worth a question to the database.
fn shows_a_secret(asked: &Asked<'_>) -> bool {
    let is_secret = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let texts = asked.headers.iter().filter(|(name, _)| ["authorization", "cookie"].contains(&name.as_str()));
    texts
        .into_iter()
        .any(|(_, value)| value.as_bytes().split(|byte| !is_secret(byte)).any(|word| word.len() >= 43))
}

impl Answer {
    /// What every answer has to be.
    fn check(&self) {
        let status = self.status;
        assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{self:?}");
        if let Some(location) = self.header("location") {
            assert!(location.starts_with('/') && !location.starts_with("//"), "sent elsewhere: {self:?}");
        }
        if self.header("content-encoding").is_some() {
            return;
        }
        let kind = self.header("content-type").unwrap_or_default();
        if kind.starts_with("application/json") && !self.body.is_empty() {
            let json: Value = serde_json::from_slice(&self.body).expect("JSON");
            let result = json.pointer("/meta/result").and_then(Value::as_str);
            let expected = if status.is_success() { "SUCCESS" } else { "FAIL" };
            assert!(result == Some(expected) || json.get("openapi").is_some(), "{self:?}");
        }
        if kind.starts_with("text/html") && !self.body.is_empty() {
            let page = std::str::from_utf8(&self.body).expect("a page is text");
            assert!(page.trim_end().ends_with("</html>"), "{page}");
            // No template has this element, but the dictionary of the fuzzer.
            assert!(!page.contains("<xq"), "what a visitor wrote became a part of the page: {page}");
        }
    }
}
