//! The relay: publishes every committed event to Kafka, at least once, in key order.
//!
//! [`run`] is the loop that never gives up: a session claims its share of the shards (`sharing`, over the pure `share`),
//! releases what is parked and no longer held up (`release`), reads windows (`reader`), counts acknowledgements
//! (`tracker`, over the pure `prefix`) and moves positions (`keeper`). Any failure ends the session; the next one begins at
//! the stored positions, with caution where a record was not stored (`caution`, `careful`): what is refused for good is
//! parked with its key (`parking`).

mod careful;
mod caution;
mod flush;
mod guard;
mod keeper;
mod pace;
mod parking;
mod prefix;
mod reader;
mod record;
mod release;
mod session;
mod settings;
mod share;
mod sharing;
#[cfg(test)]
mod simulation;
mod status;
mod tracker;
mod trouble;
mod window;

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use kafka_client::failpoint as kill;
use kafka_client::{ProducerError, WeakSetting};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use guard::{Refusal, find_refusal};
pub use parking::ParkingFull;
pub(crate) use record::source_of;
pub use settings::RelaySettings;
pub use status::RelayStatus;

use crate::metrics;
use crate::nudge::Nudge;
use caution::SharedCaution;
use session::{Relay, SessionEnd, SessionError};
use trouble::disposition;

/// Why a relay does not run. Everything that may pass by itself is waited for instead.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A producer option weakens delivery.
    #[error("relay settings weaken delivery")]
    Weak(#[from] WeakSetting),
    /// A value is out of range, or two do not fit each other.
    #[error("relay settings are not usable: {0}")]
    Settings(&'static str),
    /// The client library does not take the settings.
    #[error("relay cannot create its producer")]
    Producer(#[source] ProducerError),
    /// The server must not be used as it is.
    #[error("relay refuses this server")]
    Refused(#[source] Refusal),
}

/// First and longest wait after a failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A session that lasted longer was healthy: its failure is a new one.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Time for the last statements of a shutdown, beyond the grace for acknowledgements.
const SHUTDOWN_EXTRA: Duration = Duration::from_secs(2);
/// How often gauges are set.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes until `stop`, then waits for what is in flight and gives the shards back.
///
/// Database and broker may be away for any time. Dropping the future ends the relay at once, as a crash does: what was
/// not recorded is sent again, with the same ids.
///
/// # Errors
/// Settings or a server that cannot be used; see [`RelayError`].
pub async fn run(
    settings: RelaySettings,
    options: PgConnectOptions,
    nudge: Option<Nudge>,
    stop: CancellationToken,
    status: Arc<RelayStatus>,
) -> Result<(), RelayError> {
    settings.check()?;
    metrics::describe();
    let status_of_relay = Arc::clone(&status);
    let caution = SharedCaution::default();
    let relay = Relay {
        settings: Arc::new(settings),
        options,
        nudge,
        stop,
        status: status_of_relay,
        caution,
        held: Arc::default(),
    };
    tokio::select! {
        ended = supervise(&relay) => {
            status.disconnected();
            status.report();
            ended
        }
        () = report(&status) => Ok(()),
    }
}

async fn report(status: &RelayStatus) {
    loop {
        status.report();
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

async fn supervise(relay: &Relay) -> Result<(), RelayError> {
    let mut backoff = Backoff::default();
    loop {
        let begun = (Instant::now(), relay.status.published());
        let ended = tokio::select! {
            ended = relay.session() => ended,
            () = overdue(relay) => return Ok(()),
        };
        let pause = match ended {
            Ok(SessionEnd::Stopped) => return Ok(()),
            Ok(SessionEnd::Rebalance) => Duration::ZERO,
            Err(error) => {
                if relay.status.published() > begun.1 || begun.0.elapsed() > HEALTHY_AFTER {
                    backoff = Backoff::default();
                }
                begin_again(relay, error)?;
                backoff.next()
            }
        };
        if relay.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            give_up_shards(relay).await;
            return Ok(());
        }
    }
}

/// A session that hangs in a server's silence does not hold up the shutdown.
async fn overdue(relay: &Relay) {
    relay.stop.cancelled().await;
    tokio::time::sleep(relay.settings.shutdown_grace + SHUTDOWN_EXTRA).await;
}

/// What the failed session left under its leases, the next owner need not wait for. If the database does not answer in
/// time, the leases run out.
async fn give_up_shards(relay: &Relay) {
    let error = match tokio::time::timeout(SHUTDOWN_EXTRA, relay.hand_back_all()).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => chain(&error),
        Err(_) => "the database does not answer".to_owned(),
    };
    tracing::warn!(error, "relay cannot hand its shards back: they are free when its leases have run out");
}

/// Counts the failure, and logs it if that is a change of state; or answers that it must not be tried again.
fn begin_again(relay: &Relay, error: SessionError) -> Result<(), RelayError> {
    let text = chain(&error);
    let reason = disposition(error, relay.status.has_worked())?;
    metrics::failed(reason.name());
    if relay.status.failed(reason, text.clone()) {
        tracing::warn!(error = text, reason = reason.name(), "relay begins again at the stored position");
    } else {
        tracing::debug!(error = text, reason = reason.name(), "relay fails again");
    }
    Ok(())
}

/// Failures since the last success.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more.
    fn next(&mut self) -> Duration {
        let pause = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(6)).min(BACKOFF_MAX);
        self.failures += 1;
        // Relays that failed together do not come back together.
        pause.mul_f64(rand::random_range(0.5..1.0))
    }
}

fn chain(error: &SessionError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
