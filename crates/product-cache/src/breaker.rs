//! Whether a call that may be left out is worth its wait. Pure: the caller tells the time and how its calls went.
//!
//! Invariants: after `failures_max` failures in a row nothing is tried until `pause` is over; then exactly one call is the
//! trial, whoever else asks meanwhile; its success closes the breaker, its failure begins another pause. A trial whose
//! outcome is never told (its caller was dropped) is given up after one more pause.

use std::time::{Duration, Instant};

/// When a cache that does not answer is left alone.
#[derive(Debug, Clone, Copy)]
pub struct BreakerSettings {
    /// So many failed calls in a row open it. 0: never.
    pub failures_max: u32,
    /// From its opening to the one call that is tried.
    pub pause: Duration,
}

/// What the breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// All are made.
    Closed,
    /// None is made.
    Open,
    /// One is made and decides.
    HalfOpen,
}

impl BreakerState {
    /// As the metric tells it.
    pub(crate) const fn level(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    state: BreakerState,
    failures: u32,
    /// When it was opened, or the trial began.
    since: Instant,
}

impl Breaker {
    pub(crate) const fn new(settings: BreakerSettings, now: Instant) -> Self {
        Self { settings, state: BreakerState::Closed, failures: 0, since: now }
    }

    pub(crate) const fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether the call is to be made; its outcome must be told then.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        if self.state == BreakerState::Closed {
            return true;
        }
        if now.saturating_duration_since(self.since) < self.settings.pause {
            return false;
        }
        self.state = BreakerState::HalfOpen;
        self.since = now;
        true
    }

    /// A call that was admitted has succeeded.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
        self.state = BreakerState::Closed;
    }

    /// A call that was admitted has failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let is_too_many = self.settings.failures_max > 0 && self.failures >= self.settings.failures_max;
        // A call from before the opening does not lengthen the pause.
        if is_too_many && self.state != BreakerState::Open {
            self.state = BreakerState::Open;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn breaker(failures_max: u32) -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(BreakerSettings { failures_max, pause: PAUSE }, now), now)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let (mut breaker, now) = breaker(3);
        breaker.failed(now);
        breaker.failed(now);
        breaker.succeeded();
        breaker.failed(now);
        breaker.failed(now);
        assert!(breaker.admits(now));
        breaker.failed(now);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.admits(now + PAUSE / 2));
    }

    #[test]
    fn after_the_pause_one_trial_decides_whoever_else_asks() {
        let (mut breaker, now) = breaker(1);
        breaker.failed(now);
        let later = now + PAUSE;
        assert!(breaker.admits(later));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(!breaker.admits(later));
        breaker.failed(later);
        assert!(!breaker.admits(later + PAUSE / 2));
        assert!(breaker.admits(later + PAUSE));
        breaker.succeeded();
        assert!(breaker.admits(later + PAUSE));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_trial_that_is_never_told_of_is_given_up() {
        let (mut breaker, now) = breaker(1);
        breaker.failed(now);
        assert!(breaker.admits(now + PAUSE));
        assert!(breaker.admits(now + PAUSE * 2));
    }

    #[test]
    fn late_failures_do_not_lengthen_the_pause_and_none_at_all_open_it_with_zero() {
        let (mut first, now) = breaker(1);
        first.failed(now);
        first.failed(now + PAUSE / 2);
        assert!(first.admits(now + PAUSE));
        let (mut never, now) = breaker(0);
        (0..100).for_each(|_| never.failed(now));
        assert!(never.admits(now));
    }
}
