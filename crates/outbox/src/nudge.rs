//! Wakes the relay of the same process.

use std::sync::Arc;

use tokio::sync::Notify;

/// Tells a relay that something was committed, so that it need not wait for its next poll.
///
/// A hint only: polling finds everything anyway. Call it after the commit, never before.
#[derive(Debug, Clone, Default)]
pub struct Nudge {
    waiting: Arc<Notify>,
}

impl Nudge {
    /// Wakes the relay, now or when it next waits.
    pub fn notify(&self) {
        self.waiting.notify_one();
    }

    pub(crate) async fn notified(&self) {
        self.waiting.notified().await;
    }
}
