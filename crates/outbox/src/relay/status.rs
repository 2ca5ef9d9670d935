//! What a relay tells about itself while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::trouble::Reason;
use crate::metrics;

/// Live figures of a relay, for readiness and metrics. Share it by `Arc`.
#[derive(Debug)]
pub struct RelayStatus {
    begun: Instant,
    is_connected: AtomicBool,
    has_worked: AtomicBool,
    shards: AtomicUsize,
    members: AtomicUsize,
    in_flight: AtomicUsize,
    published: AtomicU64,
    /// Microseconds after `begun`, plus one; 0 while it is not known.
    published_until: AtomicU64,
    parked_refused: AtomicUsize,
    parked_waiting: AtomicUsize,
    parked_keys: AtomicUsize,
    failure: Mutex<Option<Failure>>,
}

/// What stopped the relay last.
#[derive(Debug)]
struct Failure {
    reason: Reason,
    text: String,
}

impl Default for RelayStatus {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            is_connected: AtomicBool::new(false),
            has_worked: AtomicBool::new(false),
            shards: AtomicUsize::new(0),
            members: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            published: AtomicU64::new(0),
            published_until: AtomicU64::new(0),
            parked_refused: AtomicUsize::new(0),
            parked_waiting: AtomicUsize::new(0),
            parked_keys: AtomicUsize::new(0),
            failure: Mutex::new(None),
        }
    }
}

impl RelayStatus {
    /// Whether the relay works: it owns shards, or stands by while others own them all.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Shards that it owns.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.load(Ordering::Relaxed)
    }

    /// Living relays among which the shards are shared, this one included, as it last saw them; 0 while disconnected.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// Events sent and not yet in the acknowledged prefix.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Events published since the process began.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Everything that was committed longer ago than this is published; `None` until the first window is.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        let until = self.published_until.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.begun.elapsed().saturating_sub(Duration::from_micros(until)))
    }

    /// What stopped it last, while it has not recovered.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock_failure().as_ref().map(|failure| failure.text.clone())
    }

    /// Keys of its shards with parked records, which hold up no others.
    #[must_use]
    pub fn parked_keys(&self) -> usize {
        self.parked_keys.load(Ordering::Relaxed)
    }

    pub(crate) fn connected(&self, shards: usize) {
        self.is_connected.store(true, Ordering::Relaxed);
        self.has_worked.store(true, Ordering::Relaxed);
        self.shards.store(shards, Ordering::Relaxed);
    }

    /// Whether it was ever connected.
    pub(crate) fn has_worked(&self) -> bool {
        self.has_worked.load(Ordering::Relaxed)
    }

    pub(crate) fn disconnected(&self) {
        self.is_connected.store(false, Ordering::Relaxed);
        self.shards.store(0, Ordering::Relaxed);
        self.members.store(0, Ordering::Relaxed);
        self.in_flight.store(0, Ordering::Relaxed);
        self.set_parked(0, 0);
        self.set_parked_keys(0);
    }

    /// It begins again after a failure. Answers whether that is a change of state: the first failure, or another kind.
    pub(crate) fn failed(&self, reason: Reason, text: String) -> bool {
        self.disconnected();
        let before = self.lock_failure().replace(Failure { reason, text });
        before.is_none_or(|before| before.reason != reason)
    }

    /// It gets on. Answers the failure that is over by that.
    pub(crate) fn works(&self) -> Option<Reason> {
        let over = self.lock_failure().take().map(|failure| failure.reason);
        if let Some(reason) = over {
            tracing::info!(reason = reason.name(), "relay works again");
        }
        over
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_parked(&self, refused: usize, waiting: usize) {
        self.parked_refused.store(refused, Ordering::Relaxed);
        self.parked_waiting.store(waiting, Ordering::Relaxed);
    }

    pub(crate) fn add_parked(&self, refused: usize, waiting: usize) {
        self.parked_refused.fetch_add(refused, Ordering::Relaxed);
        self.parked_waiting.fetch_add(waiting, Ordering::Relaxed);
    }

    pub(crate) fn set_parked_keys(&self, keys: usize) {
        self.parked_keys.store(keys, Ordering::Relaxed);
    }

    pub(crate) fn set_members(&self, members: usize) {
        self.members.store(members, Ordering::Relaxed);
    }

    pub(crate) fn set_in_flight(&self, events: usize) {
        self.in_flight.store(events, Ordering::Relaxed);
    }

    pub(crate) fn add_published(&self, events: usize) {
        self.published.fetch_add(u64::try_from(events).unwrap_or(0), Ordering::Relaxed);
    }

    /// Everything committed before `moment` is published.
    pub(crate) fn published_until(&self, moment: Instant) {
        let after = moment.saturating_duration_since(self.begun);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX - 1);
        self.published_until.fetch_max(micros + 1, Ordering::Relaxed);
    }

    pub(crate) fn report(&self) {
        metrics::report(self.shards(), self.members(), self.in_flight(), self.lag());
        let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        metrics::report_parked(count(&self.parked_refused), count(&self.parked_waiting), self.parked_keys());
    }
}
