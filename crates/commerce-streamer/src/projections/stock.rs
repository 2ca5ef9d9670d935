//! Sold out or not: the latest state wins, and the product cache hears of it.
//!
//! The intent to invalidate is written with the state, in one transaction. Whoever dies between the commit and the
//! invalidation leaves the intent to the sweeper of any peer, so a stale card cannot stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use commerce_events::{Event, StockEvent, TypeName};
use inbox::{Decision, OrderingMode, Projection, RecordView, Refusal};
use product_cache::{BreakerSettings, Invalidation, ProductCache};
use runtime::database::Pool;
use sqlx::PgConnection;

use super::decode;
use crate::invalidator::Invalidator;
use crate::metrics::{INTENTS_DONE, STALE_VERSIONS};
use crate::store::metrics::{Applied, Tally, add_applied};
use crate::store::stock as store;

/// The consumer group, without prefix.
pub const STOCK_GROUP: &str = "product-stock";

/// A product's state at a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) product_id: i64,
    pub(crate) version: i64,
    pub(crate) sold_out: bool,
}

impl From<State> for Invalidation {
    fn from(state: State) -> Self {
        Self { product_id: state.product_id, version: state.version, sold_out: state.sold_out }
    }
}

/// The projection, with the cache that it invalidates and the pool that clears intents.
pub(crate) struct StockProjection {
    cache: Invalidator,
    pool: Pool,
}

impl StockProjection {
    pub(crate) fn new(cache: Arc<dyn ProductCache>, breaker: BreakerSettings, pool: Pool) -> Self {
        Self { cache: Invalidator::new(cache, breaker), pool }
    }

    async fn clear(&self, states: &[State]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut connection = self.pool.get().await?;
        store::clear_intents(&mut connection, states).await?;
        Ok(())
    }
}

impl Projection for StockProjection {
    type Event = State;

    fn ordering(&self) -> OrderingMode {
        OrderingMode::LatestWins
    }

    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<State>, Refusal> {
        let (stock, sold_out) = match decode(record)? {
            Some(Event::Stock(StockEvent::Depleted(stock))) => (stock, true),
            Some(Event::Stock(StockEvent::Replenished(stock))) => (stock, false),
            Some(Event::Catalog(_) | Event::Order(_) | Event::View(_)) => return Ok(Decision::Skip),
            None => return Ok(Decision::Unknown),
        };
        Ok(Decision::Apply(State { product_id: stock.product_id, version: stock.version, sold_out }))
    }

    async fn apply(
        &self,
        tx: &mut PgConnection,
        topic: &str,
        partition: i32,
        events: &[State],
    ) -> Result<(), sqlx::Error> {
        let states = latest(events);
        let replaced = store::replace_states(tx, &states).await?;
        metrics::counter!(STALE_VERSIONS)
            .increment(states.len().saturating_sub(replaced).try_into().unwrap_or(0));
        add_applied(tx, &Tally { topic, partition, applied: &tally(events) }).await
    }

    async fn committed(&self, events: &[State]) {
        let states = latest(events);
        let invalidations: Vec<Invalidation> = states.iter().copied().map(Into::into).collect();
        if !self.cache.invalidate(&invalidations).await {
            return;
        }
        inbox::kill_point("inbox.in_invalidation");
        match self.clear(&states).await {
            Ok(()) => metrics::counter!(INTENTS_DONE, "by" => "consumer")
                .increment(states.len().try_into().unwrap_or(u64::MAX)),
            Err(error) => {
                tracing::warn!(%error, products = states.len(), "cache intents are done and left to the sweeper");
            }
        }
    }
}

/// The newest state of each product, sorted by product.
fn latest(events: &[State]) -> Vec<State> {
    let mut newest: BTreeMap<i64, State> = BTreeMap::new();
    for state in events {
        newest
            .entry(state.product_id)
            .and_modify(|known| {
                if known.version < state.version {
                    *known = *state;
                }
            })
            .or_insert(*state);
    }
    newest.into_values().collect()
}

fn tally(events: &[State]) -> Vec<Applied> {
    let depleted = events.iter().filter(|state| state.sold_out).count();
    [(TypeName::StockDepleted, depleted), (TypeName::StockReplenished, events.len() - depleted)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            Applied { kind: kind.as_str(), events: count, units: count }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use inbox::Projection;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use product_cache::{BreakerSettings, CacheSettings, Card, LocalCache, ProductCache, RedisCache};
    use runtime::database::{self, DatabaseSettings};
    use sqlx::{Connection, PgConnection};
    use testkit::{TestDatabase, eventually};
    use tokio_util::sync::CancellationToken;

    use super::{State, StockProjection, latest};
    use crate::sweeper::{self, SweeperSettings, measure, sweep};

    const BREAKER: BreakerSettings = BreakerSettings { failures_max: 3, pause: Duration::from_secs(60) };

    const fn state(product_id: i64, version: i64, sold_out: bool) -> State {
        State { product_id, version, sold_out }
    }

    fn cache_settings() -> CacheSettings {
        CacheSettings {
            key_prefix: String::new(),
            card_ttl: Duration::from_secs(60),
            tombstone_ttl: Duration::from_secs(600),
            timeout: Duration::from_secs(1),
            local_cards_max: 100,
        }
    }

    /// A database with the tables, a pool on it, and an empty cache.
    struct Fixture {
        database: TestDatabase,
        cache: Arc<LocalCache>,
        projection: StockProjection,
    }

    impl Fixture {
        async fn open() -> anyhow::Result<Self> {
            let database = TestDatabase::create(&[crate::migrations()]).await?;
            let cache = Arc::new(LocalCache::new(cache_settings())?);
            let settings = DatabaseSettings {
                url: database.url().to_owned(),
                connections_max: 2,
                acquire_timeout: Duration::from_secs(10),
                statement_timeout: Duration::from_secs(10),
            };
            let pool = database::pool(&settings, "test")?;
            let shared: Arc<dyn ProductCache> = cache.clone();
            let projection = StockProjection::new(shared, BREAKER, pool);
            Ok(Self { database, cache, projection })
        }

        /// One batch as the engine applies it, without what follows the commit.
        async fn apply(&self, states: &[State]) -> anyhow::Result<()> {
            let mut connection = self.database.connect().await?;
            let mut tx = connection.begin().await?;
            self.projection.apply(&mut tx, "stock-events", 0, states).await?;
            Ok(tx.commit().await?)
        }

        async fn stored(&self) -> anyhow::Result<Vec<(i64, i64, bool)>> {
            rows(
                &mut self.database.connect().await?,
                "select product_id, version, sold_out from metrics.product_stock order by 1",
            )
            .await
        }

        async fn owed(&self) -> anyhow::Result<Vec<(i64, i64, bool)>> {
            rows(
                &mut self.database.connect().await?,
                "select product_id, version, sold_out from metrics.cache_intent order by 1",
            )
            .await
        }
    }

    async fn rows(
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> anyhow::Result<Vec<(i64, i64, bool)>> {
        Ok(sqlx::query_as(statement).fetch_all(connection).await?)
    }

    #[test]
    fn only_the_newest_state_of_a_product_is_kept_in_any_order_of_arrival() {
        let events =
            [state(2, 5, true), state(1, 3, false), state(2, 4, false), state(1, 2, true), state(2, 5, true)];
        assert_eq!(latest(&events), [state(1, 3, false), state(2, 5, true)]);
    }

    #[tokio::test]
    async fn a_late_version_replaces_nothing_and_owes_nothing() -> anyhow::Result<()> {
        let fixture = Fixture::open().await?;
        fixture.apply(&[state(1, 5, true), state(2, 1, true)]).await?;
        fixture.projection.committed(&[state(1, 5, true), state(2, 1, true)]).await;
        fixture.apply(&[state(1, 4, false), state(2, 2, false)]).await?;
        assert_eq!(fixture.stored().await?, [(1, 5, true), (2, 2, false)]);
        assert_eq!(fixture.owed().await?, [(2, 2, false)]);
        fixture.database.drop_database().await
    }

    #[tokio::test]
    async fn metrics_tell_of_versions_that_come_late_and_of_what_the_cache_is_owed() -> anyhow::Result<()> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let rendered = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let metric = |name: &str| {
            let text = rendered.render();
            let line = text.lines().find(|line| line.split(' ').next() == Some(name));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        let fixture = Fixture::open().await?;
        fixture.apply(&[state(1, 5, true), state(2, 1, true), state(3, 1, true)]).await?;
        assert_eq!(metric("stock_stale_versions_total"), Some(0.0));
        // An older one, the same once more, and a newer one.
        fixture.apply(&[state(1, 4, false), state(2, 1, true), state(3, 2, false)]).await?;
        assert_eq!(metric("stock_stale_versions_total"), Some(2.0));
        let mut connection = fixture.database.connect().await?;
        sqlx::query(
            "update metrics.cache_intent set created_at = now() - interval '1 hour' where product_id = 2",
        )
        .execute(&mut connection)
        .await?;
        measure(&fixture.projection.pool).await.map_err(anyhow::Error::from_boxed)?;
        assert_eq!(metric("cache_intents_owed"), Some(3.0));
        assert!(metric("cache_intents_oldest_age_seconds").is_some_and(|age| age >= 3600.0));
        fixture.projection.committed(&[state(1, 5, true), state(2, 1, true), state(3, 2, false)]).await;
        measure(&fixture.projection.pool).await.map_err(anyhow::Error::from_boxed)?;
        assert_eq!(metric("cache_intents_owed"), Some(0.0));
        assert_eq!(metric("cache_intents_oldest_age_seconds"), Some(0.0));
        fixture.database.drop_database().await
    }

    #[tokio::test]
    async fn what_the_cache_is_owed_is_told_while_it_cannot_be_done() -> anyhow::Result<()> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let rendered = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let fixture = Fixture::open().await?;
        fixture.apply(&[state(1, 5, true), state(2, 1, true)]).await?;
        // Nothing listens there.
        let away = RedisCache::connect("redis://127.0.0.1:1", cache_settings())?;
        let settings =
            SweeperSettings { interval: Duration::from_millis(10), age: Duration::ZERO, batch_max: 1 };
        let sweeping =
            sweeper::run(settings, Arc::new(away), fixture.projection.pool.clone(), CancellationToken::new());
        let told = eventually("what is owed is told", async || {
            let text = rendered.render();
            Ok(text.lines().any(|line| line == "cache_intents_owed 2").then_some(()))
        });
        tokio::select! {
            told = told => told?,
            _ = sweeping => anyhow::bail!("the sweeper has ended"),
        }
        assert_eq!(fixture.owed().await?.len(), 2);
        fixture.database.drop_database().await
    }

    #[tokio::test]
    async fn an_invalidation_that_a_dead_consumer_owes_is_done_by_a_sweeper() -> anyhow::Result<()> {
        let fixture = Fixture::open().await?;
        let card = Card {
            product_id: 1,
            code: "a".to_owned(),
            name: "a".to_owned(),
            brand: None,
            price: 1,
            sold_out: false,
            stock_version: 4,
        };
        fixture.cache.fill(std::slice::from_ref(&card)).await?;
        // Committed, and then the consumer died.
        fixture.apply(&[state(1, 5, true)]).await?;
        assert_eq!(fixture.owed().await?, [(1, 5, true)]);
        let settings = SweeperSettings { interval: Duration::ZERO, age: Duration::ZERO, batch_max: 1 };
        sweep(&settings, fixture.cache.as_ref(), &fixture.projection.pool)
            .await
            .map_err(anyhow::Error::from_boxed)?;
        assert!(fixture.owed().await?.is_empty());
        let shown = fixture.cache.read(&[1]).await?;
        assert!(shown[0].sold_out(&card));
        // A reader that was slow cannot put its old card back.
        fixture.cache.fill(std::slice::from_ref(&card)).await?;
        assert!(fixture.cache.read(&[1]).await?[0].sold_out(&card));
        fixture.database.drop_database().await
    }
}
