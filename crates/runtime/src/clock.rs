//! The one place that asks the host for the time of day.

use chrono::{DateTime, Utc};

/// Tells the time; passed in wherever a decision depends on it, so that tests can choose it.
pub trait Clock: Send + Sync + 'static {
    /// The time of day. May step backwards when the host's clock is set.
    fn now(&self) -> DateTime<Utc>;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is handed")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
