//! Counters of the cache; labels are bounded.

use metrics::{Counter, counter};

/// Lookups of one product; `outcome` is `hit` or `miss`.
const LOOKUPS: &str = "cache_lookups_total";
/// Fills of one product; `outcome` is `stored` or `refused`.
const FILLS: &str = "cache_fills_total";
/// Invalidations of one product; `outcome` is `raised` or `known`.
const INVALIDATIONS: &str = "cache_invalidations_total";
/// Calls without an answer, and entries that cannot be read; `operation` names the call.
const ERRORS: &str = "cache_errors_total";

/// Of lookups. Found once: by its labels, a metric is found in more time than the rest of a lookup takes here.
#[derive(Debug, Clone)]
pub(crate) struct LookupMetrics {
    hits: Counter,
    misses: Counter,
}

impl LookupMetrics {
    pub(crate) fn new() -> Self {
        let of = |outcome: &'static str| counter!(LOOKUPS, "outcome" => outcome);
        Self { hits: of("hit"), misses: of("miss") }
    }

    pub(crate) fn add(&self, hits: usize, misses: usize) {
        self.hits.increment(wide(hits));
        self.misses.increment(wide(misses));
    }
}

pub(crate) fn fills(stored: usize, refused: usize) {
    counter!(FILLS, "outcome" => "stored").increment(wide(stored));
    counter!(FILLS, "outcome" => "refused").increment(wide(refused));
}

pub(crate) fn invalidations(raised: usize, known: usize) {
    counter!(INVALIDATIONS, "outcome" => "raised").increment(wide(raised));
    counter!(INVALIDATIONS, "outcome" => "known").increment(wide(known));
}

pub(crate) fn error(operation: &'static str) {
    counter!(ERRORS, "operation" => operation).increment(1);
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
