//! Around every request: the limit of its address, a place among those worked on, a time limit, the error's body or page, metrics and
//! one log line.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::field::display;

use super::envelope::render;
use crate::App;
use crate::error::{ApiError, Chain};
use crate::language::Language;
use crate::metrics::{self, InFlight};
use crate::pages::Reader;
use crate::settings::AuthMode;

/// The label of a request that matched no route: paths are the caller's to choose, labels are not.
const NO_ROUTE: &str = "none";

pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let language = Language::of(request.headers());
    let reader = Reader::of(&request);
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = admit(&app, request, next).await;
    let error = response.extensions_mut().remove::<Arc<ApiError>>();
    if let Some(error) = &error {
        let retry_after = app.settings.retry_after;
        let page = reader.and_then(|reader| reader.page(&app, error, retry_after).ok());
        let is_page = page.is_some();
        response = page.unwrap_or_else(|| render(error, language, retry_after));
        if !is_page && app.auth.mode == AuthMode::Token && response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let status = response.status().as_u16();
    let took = started.elapsed();
    metrics::request(method, route, status, took);
    let duration_ms = took.as_secs_f64() * 1_000.0;
    let error = error.as_deref().map(|error| display(Chain(error)));
    if status >= 500 {
        tracing::info!(
            http.method = method,
            http.route = route,
            http.status = status,
            duration_ms,
            error,
            "request"
        );
    } else {
        tracing::debug!(
            http.method = method,
            http.route = route,
            http.status = status,
            duration_ms,
            error,
            "request"
        );
    }
    response
}

async fn admit(app: &App, request: Request, next: Next) -> Response {
    if let Err(error) = admit_peer(app, &request) {
        return error.into_response();
    }
    let Ok(_permit) = app.concurrency.try_acquire() else {
        return ApiError::Overloaded.into_response();
    };
    let _in_flight = InFlight::new();
    match tokio::time::timeout(app.settings.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => ApiError::TimedOut.into_response(),
    }
}

/// A gateway calls for many, so its address tells nothing.
fn admit_peer(app: &App, request: &Request) -> Result<(), ApiError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    match peer.filter(|peer| !app.auth.is_gateway(*peer)) {
        Some(peer) => app.rates.admit_address(peer),
        None => Ok(()),
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}
