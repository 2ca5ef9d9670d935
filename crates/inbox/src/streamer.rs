//! Runs one consumer group's member in this process.

use std::sync::Arc;

use kafka_client::{Consumer, ConsumerError};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::engine::conductor::Conductor;
use crate::engine::work::Shared;
use crate::metrics;
use crate::projection::Projection;
use crate::settings::{ConsumerSettings, SettingsError};
use crate::status::StreamerStatus;

/// Why a streamer ended by itself. Everything that may pass is waited for instead.
#[derive(Debug, Error)]
pub enum StreamerError {
    /// A value is out of its range.
    #[error("streamer settings are not usable")]
    Settings(#[from] SettingsError),
    /// The consumer cannot be started.
    #[error("streamer has no consumer")]
    Start(#[from] ConsumerError),
    /// The consumer cannot go on, for example because another process has the same instance name.
    #[error("consumer has failed for good: {0}")]
    Consumer(String),
    /// A task of its own ended: a bug, or the runtime is shutting down.
    #[error("streamer lost a task")]
    Task(#[source] tokio::task::JoinError),
}

/// Consumes until `stop`, then lets running batches end and leaves the group.
///
/// Database and brokers may be away for any time. Dropping the future ends it at once, as a crash does: what was not
/// committed is read again.
///
/// # Errors
/// See [`StreamerError`].
pub async fn run<P: Projection>(
    settings: ConsumerSettings,
    options: PgConnectOptions,
    projection: Arc<P>,
    stop: CancellationToken,
    status: Arc<StreamerStatus>,
) -> Result<(), StreamerError> {
    settings.check()?;
    metrics::describe();
    status.set_stall_after(settings.stall_after);
    let (consumer, events) = Consumer::start(settings.kafka.clone())?;
    let shared = Arc::new(Shared { settings, projection });
    Conductor::new(shared, options, consumer, events, status).run(stop).await
}
