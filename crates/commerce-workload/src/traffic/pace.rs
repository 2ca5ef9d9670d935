//! How far the traffic may go: whoever does something beside it can hold it back until he is done.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A limit that rises, and the time for which traffic has been held at it.
#[derive(Debug)]
pub struct Pace {
    limit: watch::Sender<u64>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    since: Option<Instant>,
    before: Duration,
}

impl Default for Pace {
    /// No limit.
    fn default() -> Self {
        Self { limit: watch::Sender::new(u64::MAX), held: Mutex::default() }
    }
}

impl Pace {
    /// Lets the traffic go on to `limit` commands.
    pub fn set_limit(&self, limit: u64) {
        let mut held = self.held();
        if let Some(since) = held.since.take() {
            held.before += since.elapsed();
        }
        self.limit.send_replace(limit);
    }

    /// For how long traffic was held.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        let held = self.held();
        held.before + held.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Waits until fewer commands are done than the limit allows.
    pub(super) async fn wait(&self, done: impl Fn() -> u64) {
        let mut limit = self.limit.subscribe();
        if done() < *limit.borrow_and_update() {
            return;
        }
        self.held().since.get_or_insert_with(Instant::now);
        // The sender lives as long as this.
        let _ = limit.wait_for(|limit| done() < *limit).await;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn traffic_is_held_at_the_limit_until_it_is_raised() {
        let pace = Pace::default();
        pace.wait(|| 1_000_000).await;
        pace.set_limit(10);
        pace.wait(|| 9).await;
        assert_eq!(pace.held_for(), Duration::ZERO);
        let order = Mutex::new(Vec::new());
        let waiting = async {
            pace.wait(|| 10).await;
            order.lock().unwrap().push("went on");
        };
        let raising = async {
            order.lock().unwrap().push("raised");
            pace.set_limit(11);
        };
        tokio::join!(waiting, raising);
        assert_eq!(order.into_inner().unwrap(), ["raised", "went on"]);
        let held = pace.held_for();
        assert!(held > Duration::ZERO);
        pace.wait(|| 10).await;
        assert_eq!(pace.held_for(), held);
    }
}
