//! Runs one consumer group's member in this process.

use std::sync::Arc;
use std::time::Duration;

use kafka_client::{Consumer, ConsumerError};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::conductor::Conductor;
use crate::engine::release;
use crate::engine::work::Shared;
use crate::metrics;
use crate::projection::Projection;
use crate::settings::{ConsumerSettings, SettingsError};
use crate::status::StreamerStatus;

/// A consumer that was fenced is replaced, up to this often in a row. The client library calls a member fenced also when
/// its session ran out during an outage of the brokers; two processes with one instance name fence each other for ever.
const FENCES_MAX: u32 = 5;
/// A consumer that lived for so long before it was fenced begins a new row.
const FENCED_RARELY: Duration = Duration::from_secs(60);
/// From a fenced consumer to the next.
const FENCED_PAUSE: Duration = Duration::from_secs(1);

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
    /// Again and again another process takes the same instance name.
    #[error("consumer is fenced: {0}")]
    Fenced(String),
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
    let shared = Arc::new(Shared { settings, projection });
    tokio::select! {
        outcome = consume(Arc::clone(&shared), options.clone(), stop, status) => outcome,
        never = release::run(shared, options) => match never {},
    }
}

/// Consumes with one consumer after the other, as long as they are not fenced too often.
async fn consume<P: Projection>(
    shared: Arc<Shared<P>>,
    options: PgConnectOptions,
    stop: CancellationToken,
    status: Arc<StreamerStatus>,
) -> Result<(), StreamerError> {
    let mut fences = 0;
    loop {
        let begun = Instant::now();
        let (consumer, events) = Consumer::start(shared.settings.kafka.clone())?;
        let conductor =
            Conductor::new(Arc::clone(&shared), options.clone(), consumer, events, Arc::clone(&status));
        let reason = match conductor.run(stop.clone()).await {
            Err(StreamerError::Fenced(reason)) => reason,
            outcome => return outcome,
        };
        status.cleared(&shared.settings.kafka.group);
        fences = if begun.elapsed() > FENCED_RARELY { 1 } else { fences + 1 };
        if fences > FENCES_MAX {
            return Err(StreamerError::Fenced(reason));
        }
        tracing::warn!(
            group = shared.settings.kafka.group,
            fences,
            reason,
            "consumer was fenced, a new one begins"
        );
        tokio::select! {
            () = tokio::time::sleep(FENCED_PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}
