//! Calls to the cache that are left out while it does not answer.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use metrics::Gauge;

use crate::CacheError;
use crate::breaker::{Breaker, BreakerSettings, BreakerState};

/// What is logged once when calls are left out, and once when they are made again.
#[derive(Debug, Clone, Copy)]
pub struct GuardNews {
    /// A warning.
    pub left_out: &'static str,
    /// The good news.
    pub made_again: &'static str,
}

/// A breaker in front of the calls of one kind, shared by those who make them.
#[derive(Debug)]
pub struct CacheGuard {
    breaker: Mutex<Breaker>,
    /// 0: all calls are made; 2: none is; 1: one is being tried.
    state: Gauge,
    news: GuardNews,
}

impl CacheGuard {
    /// A closed breaker, which tells its state by the gauge.
    #[must_use]
    pub fn new(settings: BreakerSettings, state: Gauge, news: GuardNews) -> Self {
        state.set(BreakerState::Closed.level());
        Self { breaker: Mutex::new(Breaker::new(settings, Instant::now())), state, news }
    }

    /// The answer to `call`; `None` when it is left out: the caller does as if the cache were away.
    ///
    /// # Errors
    /// Those of `call`, each of which counts.
    pub async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, CacheError>> + Send,
    ) -> Result<Option<T>, CacheError> {
        if !self.with_breaker(|breaker| breaker.admits(Instant::now())) {
            return Ok(None);
        }
        let answer = call.await;
        self.with_breaker(|breaker| match &answer {
            Ok(_) => breaker.succeeded(),
            Err(_) => breaker.failed(Instant::now()),
        });
        answer.map(Some)
    }

    /// Tells of each change once. Trials and their failures are no news.
    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker.state();
        let answer = act(&mut breaker);
        let after = breaker.state();
        if before != after {
            self.state.set(after.level());
            match (before, after) {
                (BreakerState::Closed, _) => tracing::warn!("{}", self.news.left_out),
                (_, BreakerState::Closed) => tracing::info!("{}", self.news.made_again),
                (BreakerState::Open | BreakerState::HalfOpen, state) => {
                    tracing::debug!(?state, "cache breaker");
                }
            }
        }
        answer
    }
}
