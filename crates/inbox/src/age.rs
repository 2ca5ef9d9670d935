//! How old something is that another machine's clock has stamped.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_client::RecordTime;

/// An age that was known at one moment and has grown since, by a clock that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aged {
    age: Duration,
    at: Instant,
}

impl Aged {
    /// Born now.
    pub(crate) fn now() -> Self {
        Self { age: Duration::ZERO, at: Instant::now() }
    }

    /// Stamped at `stamp`, while this machine's clock says `now`.
    pub(crate) fn of(stamp: SystemTime, now: SystemTime) -> Self {
        Self { age: elapsed(stamp, now), at: Instant::now() }
    }

    pub(crate) fn age(self) -> Duration {
        self.age + self.at.elapsed()
    }
}

/// From `stamp` to `now`; nothing if the stamp's clock is ahead.
pub(crate) fn elapsed(stamp: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(stamp).unwrap_or_default()
}

/// A record's stamp; `None` if it has none that means anything.
pub(crate) fn stamp(time: RecordTime) -> Option<SystemTime> {
    match time {
        RecordTime::Unknown => None,
        RecordTime::Created(millis) | RecordTime::Appended(millis) => {
            UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
        }
    }
}
