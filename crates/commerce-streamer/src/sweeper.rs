//! Does the invalidations that a dead or unlucky peer still owes.

use std::sync::Arc;
use std::time::Duration;

use product_cache::{Invalidation, ProductCache};
use runtime::database::Pool;
use serde::Deserialize;
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use crate::metrics::{INTENTS_AGE, INTENTS_DONE, INTENTS_OWED};
use crate::rounds::{self, RoundError};
use crate::store::stock as store;

/// `[sweeper]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweeperSettings {
    /// How often the intents are looked at.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// An intent younger than this is left to the consumer that wrote it.
    #[serde(with = "humantime_serde")]
    pub age: Duration,
    /// Intents done in one transaction.
    pub batch_max: i64,
}

/// Sweeps until `shutdown`. Failures (cache or database away) are retried at the next interval; the intents stay.
pub(crate) async fn run(
    settings: SweeperSettings,
    cache: Arc<dyn ProductCache>,
    pool: Pool,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let round = || async {
        let swept = sweep(&settings, cache.as_ref(), &pool).await;
        // What is owed matters most while it cannot be done.
        if let Err(error) = measure(&pool).await {
            tracing::debug!(%error, "cache intents cannot be counted");
        }
        swept.map(drop)
    };
    rounds::run(settings.interval, shutdown, "cache intents", round).await
}

/// Does the intents that are old enough and answers how many. They are cleared in the transaction that locks them,
/// after the cache has confirmed.
pub(crate) async fn sweep(
    settings: &SweeperSettings,
    cache: &dyn ProductCache,
    pool: &Pool,
) -> Result<usize, RoundError> {
    let mut connection = pool.get().await?;
    let mut swept = 0;
    loop {
        let mut tx = connection.begin().await?;
        let owed = store::lock_owed_intents(&mut tx, settings.age, settings.batch_max).await?;
        if owed.is_empty() {
            break;
        }
        let invalidations: Vec<Invalidation> = owed.iter().copied().map(Into::into).collect();
        cache.invalidate(&invalidations).await?;
        store::clear_intents(&mut tx, &owed).await?;
        tx.commit().await?;
        metrics::counter!(INTENTS_DONE, "by" => "sweeper")
            .increment(owed.len().try_into().unwrap_or(u64::MAX));
        swept += owed.len();
    }
    Ok(swept)
}

/// Tells how many intents are owed, and how old the oldest is; 0 seconds when there is none.
pub(crate) async fn measure(pool: &Pool) -> Result<(), RoundError> {
    let mut connection = pool.get().await?;
    let (owed, oldest_seconds) = store::measure_intents(&mut connection).await?;
    metrics::gauge!(INTENTS_OWED).set(f64::from(i32::try_from(owed).unwrap_or(i32::MAX)));
    metrics::gauge!(INTENTS_AGE).set(oldest_seconds);
    Ok(())
}
