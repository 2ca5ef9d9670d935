//! Names of this crate's metrics, described once.

use metrics::{Unit, describe_counter, describe_gauge};

/// Events whose stock version was not newer than the stored one.
pub(crate) const STALE_VERSIONS: &str = "stock_stale_versions_total";
/// Intents done, by who did them: `consumer` or `sweeper`.
pub(crate) const INTENTS_DONE: &str = "cache_intents_done_total";
/// Cache intents that are still owed.
pub(crate) const INTENTS_OWED: &str = "cache_intents_owed";

/// Age of the oldest of them.
pub(crate) const INTENTS_AGE: &str = "cache_intents_oldest_age_seconds";
/// Invalidations that were not done after their commit, but left to the sweeper.
pub(crate) const INVALIDATIONS_LEFT: &str = "cache_invalidations_left_total";
/// The breaker between commits and the cache: 0 closed, 1 half open, 2 open.
pub(crate) const BREAKER_STATE: &str = "cache_breaker_state";
/// Batches' additions to the hours that are not folded yet.
pub(crate) const ADDITIONS: &str = "hourly_additions";
/// Age of the oldest of them.
pub(crate) const ADDITIONS_AGE: &str = "hourly_additions_oldest_age_seconds";
/// Those that were folded.
pub(crate) const ADDITIONS_FOLDED: &str = "hourly_additions_folded_total";

/// Registers descriptions with the installed recorder.
pub fn describe() {
    describe_counter!(STALE_VERSIONS, Unit::Count, "Stock events older than the stored state");
    describe_counter!(INTENTS_DONE, Unit::Count, "Product cache invalidations done");
    describe_gauge!(INTENTS_AGE, Unit::Seconds, "Age of the oldest product cache invalidation owed");
    describe_counter!(INVALIDATIONS_LEFT, Unit::Count, "Invalidations left to the sweeper after a commit");
    describe_gauge!(BREAKER_STATE, "Breaker of the cache: 0 closed, 1 half open, 2 open");
    describe_gauge!(ADDITIONS, Unit::Count, "Additions to the hours that are not folded yet");
    describe_gauge!(ADDITIONS_AGE, Unit::Seconds, "Age of the oldest addition that is not folded yet");
    describe_counter!(ADDITIONS_FOLDED, Unit::Count, "Additions folded into the counts by the hour");
    describe_gauge!(INTENTS_OWED, Unit::Count, "Product cache invalidations owed");
}
