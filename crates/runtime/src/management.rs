//! The management port: `/health/live`, `/health/ready`, `/metrics`. Bind it to a network that only operators reach.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// `[management]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagementSettings {
    /// Address and port of the management server.
    pub listen: SocketAddr,
}

/// One part of a process that can tell how it is.
pub trait Health: Send + Sync + 'static {
    /// Short name of the part, for the answer.
    fn name(&self) -> &'static str;
    /// `Err` when only a restart can help.
    fn live(&self) -> Result<(), String> {
        Ok(())
    }
    /// `Err` when the part cannot do its work now; says why.
    fn ready(&self) -> Result<(), String>;
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: &'static str,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    name: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

struct Shared {
    parts: Vec<Arc<dyn Health>>,
    metrics: PrometheusHandle,
}

/// Binds the management port; fails early when it is taken.
///
/// # Errors
/// The bind error of the operating system.
pub async fn bind(settings: &ManagementSettings) -> std::io::Result<TcpListener> {
    TcpListener::bind(settings.listen).await
}

/// Serves the management port until `shutdown`.
///
/// # Errors
/// An I/O error of the listener.
pub async fn serve(
    listener: TcpListener,
    parts: Vec<Arc<dyn Health>>,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(render_metrics))
        .with_state(Arc::new(Shared { parts, metrics }));
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

async fn live(State(shared): State<Arc<Shared>>) -> Response {
    answer(&shared, <dyn Health>::live)
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    answer(&shared, <dyn Health>::ready)
}

async fn render_metrics(State(shared): State<Arc<Shared>>) -> String {
    shared.metrics.run_upkeep();
    shared.metrics.render()
}

fn answer(shared: &Shared, check: impl Fn(&dyn Health) -> Result<(), String>) -> Response {
    let parts: Vec<Part> = shared
        .parts
        .iter()
        .map(|part| {
            let reason = check(part.as_ref()).err();
            Part { name: part.name(), status: if reason.is_none() { "UP" } else { "DOWN" }, reason }
        })
        .collect();
    let up = parts.iter().all(|part| part.reason.is_none());
    let code = if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Answer { status: if up { "UP" } else { "DOWN" }, parts })).into_response()
}
