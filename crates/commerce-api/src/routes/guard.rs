//! Around every request: the limit of its address, a place among those worked on, a time limit, the error's body or page, metrics and
//! one log line.
//!
//! A service and no middleware function: such a one would put each request's way to its route into a box of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;
use tracing::field::display;

use super::envelope::render;
use crate::App;
use crate::error::{ApiError, Chain};
use crate::language::Language;
use crate::metrics::InFlight;
use crate::pages::Reader;
use crate::settings::AuthMode;

/// The label of a request that matched no route: paths are the caller's to choose, labels are not.
const NO_ROUTE: &str = "none";

/// Puts a [`Guard`] around a route.
#[derive(Clone)]
pub(super) struct GuardLayer(pub(super) Arc<App>);

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, route: S) -> Guard<S> {
        Guard { app: Arc::clone(&self.0), route }
    }
}

/// A route that is reached through the guard alone.
#[derive(Clone)]
pub(super) struct Guard<S> {
    app: Arc<App>,
    route: S,
}

impl<S> Service<Request> for Guard<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let app = Arc::clone(&self.app);
        let asked = Asked::of(&request);
        let admitted = admit(&app, &request).map(|place| (place, self.route.call(request)));
        Box::pin(async move {
            let response = match admitted {
                Ok((_place, answer)) => in_bounds(app.settings.request_timeout, answer).await,
                Err(error) => error.into_response(),
            };
            Ok(asked.answered(&app, response))
        })
    }
}

/// What of a request is told with its answer.
struct Asked {
    started: Instant,
    language: Language,
    reader: Option<Reader>,
    method: &'static str,
    route: Option<MatchedPath>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self {
            started: Instant::now(),
            language: Language::of(request.headers()),
            reader: Reader::of(request),
            method: method_label(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }

    /// Completes the answer, and tells of it.
    fn answered(self, app: &App, mut response: Response) -> Response {
        let error = response.extensions_mut().remove::<Arc<ApiError>>();
        if let Some(error) = &error {
            let retry_after = app.settings.retry_after;
            let page = self.reader.and_then(|reader| reader.page(app, error, retry_after).ok());
            let is_page = page.is_some();
            response = page.unwrap_or_else(|| render(error, self.language, retry_after));
            if !is_page && app.auth.mode == AuthMode::Token && response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
        }
        let (method, route) = (self.method, self.route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str));
        let status = response.status().as_u16();
        let took = self.started.elapsed();
        app.request_metrics.answered(method, route, status, took);
        let duration_ms = took.as_secs_f64() * 1_000.0;
        let error = error.as_deref().map(|error| display(Chain(error)));
        // The level of an event is a constant.
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    http.method = method,
                    http.route = route,
                    http.status = status,
                    duration_ms,
                    error,
                    "request"
                )
            };
        }
        if status >= 500 {
            tell!(info);
        } else {
            tell!(debug);
        }
        response
    }
}

/// A place among the requests that are worked on.
fn admit(app: &App, request: &Request) -> Result<(OwnedSemaphorePermit, InFlight), ApiError> {
    admit_peer(app, request)?;
    let permit = Arc::clone(&app.concurrency).try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
    Ok((permit, app.request_metrics.begun()))
}

/// The answer, in time or as an error; a panic is one too.
async fn in_bounds(
    limit: Duration,
    answer: impl Future<Output = Result<Response, Infallible>> + Send,
) -> Response {
    match tokio::time::timeout(limit, AssertUnwindSafe(answer).catch_unwind()).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(_panic)) => ApiError::Internal("a handler panicked".into()).into_response(),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::response::{IntoResponse, Response};

    use super::in_bounds;
    use crate::error::ApiError;

    async fn error_of(
        limit: Duration,
        answer: impl Future<Output = Response> + Send,
    ) -> Option<Arc<ApiError>> {
        let mut answer = in_bounds(limit, async { Ok(answer.await) }).await;
        answer.extensions_mut().remove::<Arc<ApiError>>()
    }

    #[tokio::test]
    async fn a_request_that_panics_or_takes_too_long_is_answered_all_the_same() {
        let (long, none) = (Duration::from_secs(60), Duration::ZERO);
        let panics = async { panic!("as this test wants it") };
        assert!(matches!(error_of(long, panics).await.as_deref(), Some(ApiError::Internal(_))));
        assert!(matches!(error_of(none, std::future::pending()).await.as_deref(), Some(ApiError::TimedOut)));
        assert!(error_of(long, async { ().into_response() }).await.is_none());
    }
}
