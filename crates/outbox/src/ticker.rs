//! Takes a snapshot each second, so that a backlog can be read in windows of a second.
//!
//! Any number of processes may run it: one tick a second is taken by whoever gets the lock. Without any, the relay
//! still publishes everything, in larger windows.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::{metrics, store};

/// Settings of [`run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickerSettings {
    /// Time between two ticks.
    pub interval: Duration,
}

impl Default for TickerSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1) }
    }
}

/// Share of the interval that the last tick must be old: several tickers are never exactly in step.
const AGE_SHARE: f64 = 0.9;
/// Longest time for taking a tick before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes ticks until it is stopped; a database that is away is waited for.
pub async fn run(settings: TickerSettings, options: PgConnectOptions, stop: CancellationToken) {
    let options = options.application_name("outbox-ticker").disable_statement_logging();
    let mut connection = None;
    let mut is_failing = false;
    while stop.run_until_cancelled(tokio::time::sleep(settings.interval)).await.is_some() {
        let age_min = settings.interval.mul_f64(AGE_SHARE);
        let taken = tokio::time::timeout(PATIENCE, take_tick(&mut connection, &options, age_min)).await;
        let failure = match taken {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the database does not answer".to_owned()),
        };
        match failure {
            Some(error) => {
                connection = None;
                // Once for each outage: the next attempts fail alike.
                if !is_failing {
                    tracing::warn!(error, "no tick can be taken; trying again");
                }
                is_failing = true;
            }
            None => is_failing = false,
        }
    }
}

async fn take_tick(
    connection: &mut Option<PgConnection>,
    options: &PgConnectOptions,
    age_min: Duration,
) -> Result<(), sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.connect().await?),
    };
    if store::tick::take_tick(connection, age_min).await? {
        metrics::tick_taken();
    }
    Ok(())
}

/// Takes one tick at once, unless another ticker holds the lock; answers whether it was taken.
///
/// # Errors
/// The database's failure.
pub async fn tick_now(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    store::tick::take_tick(connection, Duration::ZERO).await
}
