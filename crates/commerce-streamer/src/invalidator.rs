//! Invalidations right after a commit, as long as the cache answers.
//!
//! A slow or dead cache must not delay batches: behind the breaker an invalidation is left out, and its intent stays in the
//! database for the sweeper of any peer, which asks no breaker.

use std::sync::Arc;

use product_cache::{BreakerSettings, CacheGuard, GuardNews, Invalidation, ProductCache};

use crate::metrics::{BREAKER_STATE, INVALIDATIONS_LEFT};

const NEWS: GuardNews = GuardNews {
    left_out: "cache does not answer: invalidations are left to the sweeper",
    made_again: "cache answers: invalidations follow their commits again",
};

/// The cache behind the breaker.
pub(crate) struct Invalidator {
    cache: Arc<dyn ProductCache>,
    guard: CacheGuard,
}

impl Invalidator {
    pub(crate) fn new(cache: Arc<dyn ProductCache>, settings: BreakerSettings) -> Self {
        Self { cache, guard: CacheGuard::new(settings, metrics::gauge!(BREAKER_STATE), NEWS) }
    }

    /// Answers whether the cache has confirmed; if not, the sweeper will see to it.
    pub(crate) async fn invalidate(&self, invalidations: &[Invalidation]) -> bool {
        let is_done = match self.guard.call(self.cache.invalidate(invalidations)).await {
            Ok(done) => done.is_some(),
            Err(error) => {
                tracing::debug!(%error, "cache was not invalidated after a commit");
                false
            }
        };
        if !is_done {
            metrics::counter!(INVALIDATIONS_LEFT)
                .increment(invalidations.len().try_into().unwrap_or(u64::MAX));
        }
        is_done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use anyhow::Context as _;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use product_cache::{BreakerSettings, CacheSettings, Invalidation, RedisCache};
    use testkit::{Line, Proxy, TestTopics, eventually};

    use super::Invalidator;

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
                    let before = metric("cache_errors_total");
                    let is_done = invalidator.cache.invalidate(&INVALIDATIONS).await.is_ok();
                    asked += metric("cache_errors_total") - before;
                    Ok(is_done.then_some(()))
                })
                .await?;
                proxy.set(line);
                for _ in 0..12 {
                    assert!(!invalidator.invalidate(&INVALIDATIONS).await, "{line:?}");
                }
                asked += 2.0 + further;
                assert_eq!(metric("cache_errors_total"), asked, "{line:?}");
                assert_eq!(metric("cache_breaker_state"), 2.0);
                if pause.is_zero() {
                    proxy.set(Line::Up);
                    eventually("a trial succeeds", async || {
                        let before = metric("cache_errors_total");
                        let is_done = invalidator.invalidate(&INVALIDATIONS).await;
                        asked += metric("cache_errors_total") - before;
                        Ok(is_done.then_some(()))
                    })
                    .await?;
                    assert_eq!(metric("cache_breaker_state"), 0.0);
                }
            }
        }
        assert!(metric("cache_invalidations_left_total") >= 48.0);
        Ok(())
    }
}
