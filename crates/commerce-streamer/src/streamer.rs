//! The consumers of this crate, started by name.

use std::sync::Arc;

use commerce_events::{CATALOG_EVENTS, ORDER_EVENTS, STOCK_EVENTS, VIEW_EVENTS};
use inbox::{ConsumerSettings, Projection, StreamerStatus};
use product_cache::ProductCache;
use runtime::database::Pool;
use runtime::management::Health;
use runtime::{Lifecycle, TaskKind};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

use crate::breaker::BreakerSettings;
use crate::projections::metrics::{BATCH_RECORDS_MAX, METRICS_GROUP, MetricsProjection};
use crate::projections::stock::{STOCK_GROUP, StockProjection};
use crate::sweeper::{self, SweeperSettings};

/// Every consumer that can be started: the name of its group, without prefix.
pub const CONSUMERS: &[&str] = &[METRICS_GROUP, STOCK_GROUP];

/// What the projection of counts reads.
const METRICS_TOPICS: [&str; 3] = [CATALOG_EVENTS, ORDER_EVENTS, VIEW_EVENTS];

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
    /// The amounts of a batch of orders could add up to more than there are numbers for.
    #[error(
        "streamer.batch_records_max must not exceed {BATCH_RECORDS_MAX}: the amounts of a batch have to fit"
    )]
    BatchTooLarge,
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

/// Starts the consumers `names`, each a member of its own group, and the sweeper of cache intents. `settings` makes a
/// consumer's settings from its group and topics, both without prefix.
///
/// # Errors
/// A name that no consumer has, or batches that are too large; nothing is started then.
pub fn start(
    names: &[String],
    settings: impl Fn(&str, &[&str]) -> ConsumerSettings,
    parts: &StreamerParts,
    sweeper: SweeperSettings,
    lifecycle: &mut Lifecycle,
) -> Result<Vec<Arc<dyn Health>>, StreamerError> {
    if names.is_empty() {
        return Err(StreamerError::None);
    }
    let chosen = names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    let counts = || settings(METRICS_GROUP, &METRICS_TOPICS);
    if chosen.contains(&METRICS_GROUP) && counts().kafka.batch_records_max > BATCH_RECORDS_MAX {
        return Err(StreamerError::BatchTooLarge);
    }
    let mut health = Vec::with_capacity(chosen.len());
    for name in chosen {
        let status = Arc::new(StreamerStatus::default());
        let watched: Arc<dyn Health> = Arc::new(ConsumerHealth { name, status: Arc::clone(&status) });
        health.push(watched);
        match name {
            METRICS_GROUP => spawn(lifecycle, counts(), parts, MetricsProjection, status),
            STOCK_GROUP => {
                let stock = StockProjection::new(Arc::clone(&parts.cache), parts.breaker, parts.pool.clone());
                spawn(lifecycle, settings(name, &[STOCK_EVENTS]), parts, stock, status);
            }
            // One of the list that has no arm here.
            _ => return Err(unknown(name)),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use inbox::ConsumerSettings;
    use kafka_client::ClientSettings;
    use product_cache::{CacheSettings, LocalCache};
    use runtime::Lifecycle;
    use runtime::database::{DatabaseSettings, pool};

    use super::{BATCH_RECORDS_MAX, CONSUMERS, StreamerError, StreamerParts, start};
    use crate::breaker::BreakerSettings;
    use crate::sweeper::SweeperSettings;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_batch_whose_amounts_might_not_fit_is_refused_before_anything_is_started() {
        let url = "postgres://nobody@localhost/nothing".to_owned();
        let (acquire_timeout, statement_timeout) = (LONG, LONG);
        let database = DatabaseSettings { url, connections_max: 1, acquire_timeout, statement_timeout };
        let cache = CacheSettings {
            key_prefix: String::new(),
            card_ttl: LONG,
            tombstone_ttl: LONG * 2,
            timeout: LONG,
            local_cards_max: 1,
        };
        let parts = StreamerParts {
            options: database.url.parse().unwrap(),
            pool: pool(&database, "test").unwrap(),
            cache: Arc::new(LocalCache::new(cache).unwrap()),
            breaker: BreakerSettings { failures_max: 0, pause: LONG },
        };
        let settings = |group: &str, topics: &[&str]| {
            let client = ClientSettings::new("localhost:1", "test");
            let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
            let mut kafka = kafka_client::ConsumerSettings::new(client, group.to_owned(), topics);
            kafka.batch_records_max = BATCH_RECORDS_MAX + 1;
            ConsumerSettings::new(kafka, "")
        };
        let names = CONSUMERS.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let sweeper = SweeperSettings { interval: LONG, age: LONG, batch_max: 1 };
        let mut lifecycle = Lifecycle::new();
        let refused = start(&names, settings, &parts, sweeper, &mut lifecycle);
        assert!(matches!(refused.err(), Some(StreamerError::BatchTooLarge)));
    }
}
