//! How long to wait between two polls. Pure.

use std::time::Duration;

/// Short pauses while there is something to do, longer and longer ones while there is not.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    busy: Duration,
    idle_max: Duration,
    /// The pause after the next poll that finds nothing.
    idle: Duration,
}

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// No rows.
    Nothing,
    /// Some rows, and probably no more.
    Some,
    /// There is more behind.
    More,
}

impl Pace {
    pub(crate) fn new(busy: Duration, idle_max: Duration) -> Self {
        Self { busy, idle_max: idle_max.max(busy), idle: busy }
    }

    /// The pause before the next poll.
    pub(crate) fn after(&mut self, found: Found) -> Duration {
        match found {
            Found::Nothing => {
                let pause = self.idle;
                self.idle = (self.idle * 2).min(self.idle_max);
                pause
            }
            Found::Some => {
                self.idle = self.busy;
                self.busy
            }
            Found::More => {
                self.idle = self.busy;
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_while_idle_and_start_again_after_rows() {
        let milliseconds = Duration::from_millis;
        let mut pace = Pace::new(milliseconds(2), milliseconds(10));
        let idle: Vec<_> = (0..4).map(|_| pace.after(Found::Nothing)).collect();
        assert_eq!(idle, [2, 4, 8, 10].map(milliseconds));
        assert_eq!(pace.after(Found::Some), milliseconds(2));
        assert_eq!(pace.after(Found::More), Duration::ZERO);
        assert_eq!(pace.after(Found::Nothing), milliseconds(2));
    }
}
