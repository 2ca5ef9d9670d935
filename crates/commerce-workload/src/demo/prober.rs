//! How long it takes from an acknowledged like to the count that shows it, measured while everything runs.
//!
//! Its products are its own, so each change of a count has one cause.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::faults::Disturbance;
use super::store;
use crate::traffic::Market;

/// How often the count is read while it is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// From one probe to the next: rare enough to be no load.
const PROBE_INTERVAL: Duration = Duration::from_millis(40);
/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 600_000_000;

/// Latencies in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    /// While nothing was being broken.
    pub(super) calm: Histogram<u64>,
    /// Always.
    pub(super) all: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 3);
        Ok(Self { calm: histogram()?, all: histogram()? })
    }

    fn note(&mut self, latency: Duration, calm: bool) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX);
        self.all.saturating_record(micros);
        if calm {
            self.calm.saturating_record(micros);
        }
    }
}

/// Likes and unlikes its products in turn, and waits for each count to follow.
pub(super) struct Prober {
    pub(super) market: Arc<Market>,
    pub(super) database_url: String,
    pub(super) product_ids: Vec<i64>,
    pub(super) buyer_id: i64,
    pub(super) disturbance: Arc<Disturbance>,
}

impl Prober {
    /// Probes until `stop`; a probe that is under way then is left out.
    pub(super) async fn run(&self, stop: CancellationToken) -> anyhow::Result<Latencies> {
        let mut connection = PgConnection::connect_with(&store::options(&self.database_url)?).await?;
        let mut latencies = Latencies::new()?;
        // A probe counts as calm when nothing changed since the one before it was answered: what was broken must
        // first be seen to work again.
        let mut state_before = self.disturbance.state();
        for round in 0_usize.. {
            for product_id in self.product_ids.iter().copied() {
                let wanted = self.act(product_id, round.is_multiple_of(2)).await?;
                let begun = Instant::now();
                tokio::select! {
                    seen = wait_for(&mut connection, product_id, wanted) => seen?,
                    () = stop.cancelled() => return Ok(latencies),
                }
                let state = self.disturbance.state();
                latencies.note(begun.elapsed(), state == state_before && Disturbance::is_calm(state));
                state_before = state;
                sleep(PROBE_INTERVAL).await;
            }
        }
        Ok(latencies)
    }

    /// Likes or unlikes; answers the count that must follow.
    async fn act(&self, product_id: i64, like: bool) -> anyhow::Result<i64> {
        let (market, buyer_id) = (&self.market, self.buyer_id);
        if like {
            market.definite(|| market.shop.like(buyer_id, product_id)).await?;
            market.ledger().liked(buyer_id, product_id);
        } else {
            market.definite(|| market.shop.unlike(buyer_id, product_id)).await?;
            market.ledger().unliked(buyer_id, product_id);
        }
        Ok(i64::from(like))
    }
}

async fn wait_for(connection: &mut PgConnection, product_id: i64, wanted: i64) -> Result<(), sqlx::Error> {
    while store::like_count(connection, product_id).await? != wanted {
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
