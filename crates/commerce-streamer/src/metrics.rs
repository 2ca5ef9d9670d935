//! Names of this crate's metrics, described once.

use metrics::{Unit, describe_counter, describe_gauge};

/// Events whose stock version was not newer than the stored one.
pub(crate) const STALE_VERSIONS: &str = "commerce_stock_stale_versions_total";
/// Intents done, by who did them: `consumer` or `sweeper`.
pub(crate) const INTENTS_DONE: &str = "commerce_cache_intents_done_total";
/// Cache intents that are still owed.
pub(crate) const INTENTS_OWED: &str = "commerce_cache_intents_owed";

/// Registers descriptions with the installed recorder.
pub fn describe() {
    describe_counter!(STALE_VERSIONS, Unit::Count, "Stock events older than the stored state");
    describe_counter!(INTENTS_DONE, Unit::Count, "Product cache invalidations done");
    describe_gauge!(INTENTS_OWED, Unit::Count, "Product cache invalidations owed");
}
