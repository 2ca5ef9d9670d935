//! How long published rows are kept, and how much may wait.

use std::time::Duration;

use thiserror::Error;

use super::alarm::BacklogLimits;

/// Settings of retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Time between two looks.
    pub interval: Duration,
    /// How long a segment is kept after its hour at least. Not before stragglers are done; not so long that the ring comes
    /// round.
    pub keep: Duration,
    /// Longest wait for a segment's lock. Whoever reads the outbox meanwhile waits as long.
    pub lock_timeout: Duration,
    /// An alarm is raised when events wait for longer.
    pub age_max: Duration,
    /// An alarm is raised when more events wait.
    pub rows_max: u64,
}

impl Default for RetentionSettings {
    /// A look each 10 s, 5 min kept, 50 ms for a lock, alarms at 10 min and at a million events.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            keep: Duration::from_secs(300),
            lock_timeout: Duration::from_millis(50),
            age_max: Duration::from_secs(600),
            rows_max: 1_000_000,
        }
    }
}

/// A value that is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("retention settings are not usable: {0}")]
pub struct RetentionSettingsError(&'static str);

/// A statement that began in an hour may still write into its segment for a while.
const KEEP_MIN: Duration = Duration::from_secs(60);
/// A segment is filled again three hours after its hour: this leaves one for the truncation.
const KEEP_MAX: Duration = Duration::from_secs(2 * 3_600);
/// With a longer wait, writers and relays would feel each attempt.
const LOCK_TIMEOUT_MAX: Duration = Duration::from_secs(1);

impl RetentionSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the first rule that is broken.
    pub fn check(&self) -> Result<(), RetentionSettingsError> {
        let rules = [
            (!self.interval.is_zero(), "interval must not be 0"),
            ((KEEP_MIN..=KEEP_MAX).contains(&self.keep), "keep must be 1 minute to 2 hours"),
            (
                // The server takes whole milliseconds, and 0 as no limit.
                (Duration::from_millis(1)..=LOCK_TIMEOUT_MAX).contains(&self.lock_timeout),
                "lock_timeout must be 1 ms to 1 s",
            ),
            (!self.age_max.is_zero(), "age_max must not be 0"),
            (self.rows_max > 0, "rows_max must not be 0"),
        ];
        match rules.into_iter().find(|(kept, _)| !kept) {
            Some((_, rule)) => Err(RetentionSettingsError(rule)),
            None => Ok(()),
        }
    }

    pub(super) fn limits(&self) -> BacklogLimits {
        BacklogLimits { age_max: self.age_max, rows_max: self.rows_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_each_broken_rule_is_not() {
        assert_eq!(RetentionSettings::default().check(), Ok(()));
        type Break = fn(&mut RetentionSettings);
        let cases: [Break; 7] = [
            |settings| settings.interval = Duration::ZERO,
            |settings| settings.keep = Duration::from_secs(59),
            |settings| settings.keep = Duration::from_secs(7_201),
            |settings| settings.lock_timeout = Duration::from_micros(999),
            |settings| settings.lock_timeout = Duration::from_millis(1_001),
            |settings| settings.age_max = Duration::ZERO,
            |settings| settings.rows_max = 0,
        ];
        for (number, breaking) in cases.into_iter().enumerate() {
            let mut settings = RetentionSettings::default();
            breaking(&mut settings);
            assert!(settings.check().is_err(), "case {number}");
        }
    }
}
