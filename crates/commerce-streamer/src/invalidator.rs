//! Invalidations right after a commit, as long as the cache answers.
//!
//! A slow or dead cache must not delay batches: behind the breaker an invalidation is left out, and its intent stays in the
//! database for the sweeper of any peer, which asks no breaker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use product_cache::{Invalidation, ProductCache};

use crate::breaker::{Breaker, BreakerSettings, BreakerState};
use crate::metrics::{BREAKER_STATE, INVALIDATIONS_LEFT};

/// The cache behind the breaker.
pub(crate) struct Invalidator {
    cache: Arc<dyn ProductCache>,
    breaker: Mutex<Breaker>,
}

impl Invalidator {
    pub(crate) fn new(cache: Arc<dyn ProductCache>, settings: BreakerSettings) -> Self {
        metrics::gauge!(BREAKER_STATE).set(BreakerState::Closed.level());
        Self { cache, breaker: Mutex::new(Breaker::new(settings, Instant::now())) }
    }

    /// Answers whether the cache has confirmed; if not, the sweeper will see to it.
    pub(crate) async fn invalidate(&self, invalidations: &[Invalidation]) -> bool {
        let is_done = self.with_breaker(|breaker| breaker.admits(Instant::now()))
            && match self.cache.invalidate(invalidations).await {
                Ok(()) => {
                    self.with_breaker(Breaker::succeeded);
                    true
                }
                Err(error) => {
                    tracing::debug!(%error, "cache was not invalidated after a commit");
                    self.with_breaker(|breaker| breaker.failed(Instant::now()));
                    false
                }
            };
        if !is_done {
            metrics::counter!(INVALIDATIONS_LEFT)
                .increment(invalidations.len().try_into().unwrap_or(u64::MAX));
        }
        is_done
    }

    /// Tells of each change once. Trials and their failures are no news.
    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker.state();
        let answer = act(&mut breaker);
        let after = breaker.state();
        if before != after {
            metrics::gauge!(BREAKER_STATE).set(after.level());
            match (before, after) {
                (BreakerState::Closed, _) => {
                    tracing::warn!("cache does not answer: invalidations are left to the sweeper");
                }
                (_, BreakerState::Closed) => {
                    tracing::info!("cache answers: invalidations follow their commits again");
                }
                (BreakerState::Open | BreakerState::HalfOpen, state) => {
                    tracing::debug!(?state, "cache breaker");
                }
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use anyhow::Context as _;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use product_cache::{CacheSettings, Invalidation, RedisCache};
    use testkit::{Line, Proxy, TestTopics, eventually};

    use super::Invalidator;
    use crate::breaker::BreakerSettings;

    const INVALIDATIONS: [Invalidation; 1] = [Invalidation { product_id: 1, version: 1, sold_out: true }];

    #[tokio::test]
    async fn a_redis_that_is_cut_or_silent_is_asked_twice_and_then_once_a_pause() -> anyhow::Result<()> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let rendered = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let metric = |name: &str| {
            let text = rendered.render();
            let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(name));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let redis = testkit::redis_url()?;
        let address = redis.trim_start_matches("redis://").parse().with_context(|| redis.clone())?;
        let proxy = Proxy::start(address)?;
        let settings = CacheSettings {
            key_prefix: TestTopics::new()?.prefix().to_owned(),
            card_ttl: Duration::from_secs(60),
            tombstone_ttl: Duration::from_secs(600),
            timeout: Duration::from_millis(200),
            local_cards_max: 1,
        };
        let cache = RedisCache::connect(&format!("redis://127.0.0.1:{}", proxy.port), settings)?;
        let cache = Arc::new(cache);
        let mut asked = 0.0;
        for line in [Line::Cut, Line::Frozen] {
            // A pause that is not over during the test, and one that is over at once.
            for (pause, further) in [(Duration::from_secs(3600), 0.0), (Duration::ZERO, 10.0)] {
                proxy.set(Line::Up);
                let invalidator = Invalidator::new(cache.clone(), BreakerSettings { failures_max: 2, pause });
                eventually("redis answers", async || {
                    let before = metric("commerce_cache_errors_total");
                    let is_done = invalidator.cache.invalidate(&INVALIDATIONS).await.is_ok();
                    asked += metric("commerce_cache_errors_total") - before;
                    Ok(is_done.then_some(()))
                })
                .await?;
                proxy.set(line);
                for _ in 0..12 {
                    assert!(!invalidator.invalidate(&INVALIDATIONS).await, "{line:?}");
                }
                asked += 2.0 + further;
                assert_eq!(metric("commerce_cache_errors_total"), asked, "{line:?}");
                assert_eq!(metric("commerce_cache_breaker_state"), 2.0);
                if pause.is_zero() {
                    proxy.set(Line::Up);
                    eventually("a trial succeeds", async || {
                        let before = metric("commerce_cache_errors_total");
                        let is_done = invalidator.invalidate(&INVALIDATIONS).await;
                        asked += metric("commerce_cache_errors_total") - before;
                        Ok(is_done.then_some(()))
                    })
                    .await?;
                    assert_eq!(metric("commerce_cache_breaker_state"), 0.0);
                }
            }
        }
        assert!(metric("commerce_cache_invalidations_left_total") >= 48.0);
        Ok(())
    }
}
