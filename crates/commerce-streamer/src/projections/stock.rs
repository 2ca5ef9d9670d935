//! Sold out or not: the latest state wins, and the product cache hears of it.
//!
//! The intent to invalidate is written with the state, in one transaction. Whoever dies between the commit and the
//! invalidation leaves the intent to the sweeper of any peer, so a stale card cannot stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use commerce_events::{Event, StockEvent, TypeName};
use inbox::{Decision, Projection, RecordView, Refusal};
use product_cache::{Invalidation, ProductCache};
use runtime::database::Pool;
use sqlx::PgConnection;

use super::decode;
use crate::metrics::{INVALIDATIONS, STALE_VERSIONS};
use crate::store::metrics::{Applied, add_applied};
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
    cache: Arc<dyn ProductCache>,
    pool: Pool,
}

impl StockProjection {
    pub(crate) fn new(cache: Arc<dyn ProductCache>, pool: Pool) -> Self {
        Self { cache, pool }
    }

    async fn invalidate(&self, states: &[State]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let invalidations: Vec<Invalidation> = states.iter().copied().map(Into::into).collect();
        self.cache.invalidate(&invalidations).await?;
        let mut connection = self.pool.get().await?;
        store::clear_intents(&mut connection, states).await?;
        Ok(())
    }
}

impl Projection for StockProjection {
    type Event = State;

    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<State>, Refusal> {
        match decode(record) {
            Ok(Event::Stock(StockEvent::Depleted(stock))) => Ok(Decision::Apply(State {
                product_id: stock.product_id,
                version: stock.version,
                sold_out: true,
            })),
            Ok(Event::Stock(StockEvent::Replenished(stock))) => Ok(Decision::Apply(State {
                product_id: stock.product_id,
                version: stock.version,
                sold_out: false,
            })),
            Ok(Event::Catalog(_) | Event::Order(_) | Event::View(_)) => Ok(Decision::Skip),
            Err(refusal) if refusal.reason == "unknown_type" => Ok(Decision::Skip),
            Err(refusal) => Err(refusal),
        }
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
        metrics::counter!(STALE_VERSIONS).increment(states.len().saturating_sub(replaced).try_into().unwrap_or(0));
        add_applied(tx, topic, partition, &tally(events)).await
    }

    async fn committed(&self, events: &[State]) {
        let states = latest(events);
        match self.invalidate(&states).await {
            Ok(()) => metrics::counter!(INVALIDATIONS, "by" => "consumer")
                .increment(states.len().try_into().unwrap_or(u64::MAX)),
            Err(error) => {
                tracing::warn!(%error, products = states.len(), "cache invalidation is left to the sweeper");
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
    use super::{State, latest};

    const fn state(product_id: i64, version: i64, sold_out: bool) -> State {
        State { product_id, version, sold_out }
    }

    #[test]
    fn only_the_newest_state_of_a_product_is_kept_in_any_order_of_arrival() {
        let events = [state(2, 5, true), state(1, 3, false), state(2, 4, false), state(1, 2, true), state(2, 5, true)];
        assert_eq!(latest(&events), [state(1, 3, false), state(2, 5, true)]);
    }
}
