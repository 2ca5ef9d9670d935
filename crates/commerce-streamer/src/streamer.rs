//! The consumers of this crate, started by name.

use std::sync::Arc;

use commerce_events::{CATALOG_EVENTS, ORDER_EVENTS, STOCK_EVENTS, VIEW_EVENTS};
use inbox::{ConsumerSettings, Projection, StreamerStatus};
use product_cache::{BreakerSettings, ProductCache};
use runtime::database::Pool;
use runtime::management::Health;
use runtime::{Lifecycle, TaskKind};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

use crate::hourly::{self, HourlySettings};
use crate::projections::metrics::{METRICS_GROUP, MetricsProjection};
use crate::projections::stock::{STOCK_GROUP, StockProjection};
use crate::sweeper::{self, SweeperSettings};

/// Every consumer that can be started: the name of its group, without prefix.
pub const CONSUMERS: &[&str] = &[METRICS_GROUP, STOCK_GROUP];

/// A consumer that cannot be started.
#[derive(Debug, Error)]
pub enum StreamerError {
    /// No consumer has this name.
    #[error("unknown consumer {name:?}; known are {known:?}")]
    Unknown {
        /// As configured.
        name: String,
        /// Those that exist.
        known: &'static [&'static str],
    },
    /// None was chosen.
    #[error("no consumer is configured; known are {CONSUMERS:?}")]
    None,
}

/// What the consumers work with.
pub struct StreamerParts {
    /// The metrics database, for consumers.
    pub options: PgConnectOptions,
    /// The metrics database, for intents.
    pub pool: Pool,
    /// What is invalidated.
    pub cache: Arc<dyn ProductCache>,
    /// When the cache is left alone after a commit.
    pub breaker: BreakerSettings,
    /// How often intents are swept.
    pub sweeper: SweeperSettings,
    /// How often counts by the hour are folded.
    pub hourly: HourlySettings,
}

/// One consumer's state for the management port.
struct ConsumerHealth {
    name: &'static str,
    status: Arc<StreamerStatus>,
}

impl Health for ConsumerHealth {
    fn name(&self) -> &'static str {
        self.name
    }

    fn live(&self) -> Result<(), String> {
        if self.status.alive() { Ok(()) } else { Err("the poll thread gives no sign of life".to_owned()) }
    }

    fn ready(&self) -> Result<(), String> {
        self.status.not_ready().map_or(Ok(()), Err)
    }
}

/// Starts the consumers `names`, each a member of its own group, the sweeper of cache intents, and beside counts the folder of
/// their hours. `settings` makes a consumer's settings from its group and topics, both without prefix.
///
/// # Errors
/// A name that no consumer has; nothing is started then.
pub fn start(
    names: &[String],
    settings: impl Fn(&str, &[&str]) -> ConsumerSettings,
    parts: &StreamerParts,
    lifecycle: &mut Lifecycle,
) -> Result<Vec<Arc<dyn Health>>, StreamerError> {
    if names.is_empty() {
        return Err(StreamerError::None);
    }
    let chosen = names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    let mut health = Vec::with_capacity(chosen.len());
    for name in chosen {
        let status = Arc::new(StreamerStatus::default());
        let watched: Arc<dyn Health> = Arc::new(ConsumerHealth { name, status: Arc::clone(&status) });
        health.push(watched);
        match name {
            METRICS_GROUP => {
                let topics = [CATALOG_EVENTS, ORDER_EVENTS, VIEW_EVENTS];
                spawn(lifecycle, settings(name, &topics), parts, MetricsProjection, status);
                let folding = hourly::run(parts.hourly, parts.pool.clone(), lifecycle.shutdown());
                lifecycle.spawn(TaskKind::HourlyFolder, folding);
            }
            STOCK_GROUP => {
                let stock = StockProjection::new(Arc::clone(&parts.cache), parts.breaker, parts.pool.clone());
                spawn(lifecycle, settings(name, &[STOCK_EVENTS]), parts, stock, status);
            }
            // One of the list that has no arm here.
            _ => return Err(unknown(name)),
        }
    }
    let sweeper = parts.sweeper.clone();
    let sweep = sweeper::run(sweeper, Arc::clone(&parts.cache), parts.pool.clone(), lifecycle.shutdown());
    lifecycle.spawn(TaskKind::IntentSweeper, sweep);
    Ok(health)
}

fn find(name: &str) -> Result<&'static str, StreamerError> {
    CONSUMERS.iter().copied().find(|known| *known == name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> StreamerError {
    StreamerError::Unknown { name: name.to_owned(), known: CONSUMERS }
}

fn spawn<P: Projection>(
    lifecycle: &mut Lifecycle,
    settings: ConsumerSettings,
    parts: &StreamerParts,
    projection: P,
    status: Arc<StreamerStatus>,
) {
    let run = inbox::streamer::run(
        settings,
        parts.options.clone(),
        Arc::new(projection),
        lifecycle.shutdown(),
        status,
    );
    lifecycle.spawn(TaskKind::Consumer, run);
}
