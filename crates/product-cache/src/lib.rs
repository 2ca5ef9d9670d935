//! Versioned product cards and their invalidations: the only user of Redis.
//!
//! A product has two entries that are read together: its *card* (facts with the stock version they were read at) and
//! its *tombstone* (the least version a card may have, and whether the product is sold out at that version).
//! Invariant: once an invalidation of version `v` returned, no card older than `v` is stored or can be stored, however
//! late its reader is, in whatever order invalidations and fills arrive, and however often each is repeated.
//! Deliberately absent: counts (they are never cached here) and loading from the database (the api does it).

mod breaker;
mod card;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guarded;
mod local;
mod metrics;
mod redis_cache;
mod settings;

use async_trait::async_trait;
use thiserror::Error;

pub use breaker::BreakerSettings;
pub use card::{Card, Invalidation, Lookup, Tombstone};
pub use guarded::{CacheGuard, GuardNews};
pub use local::LocalCache;
pub use redis_cache::RedisCache;
pub use settings::CacheSettings;

/// Why the cache did not answer. Never a reason to refuse a page: the caller goes to the database, or keeps the
/// invalidation owed and repeats it.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The server is away, too slow, or refuses. Repeating later can help.
    #[error("product cache did not answer")]
    Unavailable(#[source] redis::RedisError),
    /// No answer within `cache.timeout`.
    #[error("product cache did not answer in time")]
    TimedOut,
    /// The settings or the URL cannot be used.
    #[error("product cache settings: {0}")]
    Settings(String),
    /// A card cannot be written as JSON; a bug of ours.
    #[error("card cannot be encoded")]
    Encode(#[source] serde_json::Error),
}

/// The protocol, the same for every implementation (one test suite runs over all of them).
///
/// Every operation is atomic per product, not over products. On an error part of a call may have been done; each may
/// be repeated freely. None waits longer than the configured timeout.
#[async_trait]
pub trait ProductCache: Send + Sync + 'static {
    /// Card and tombstone of each id, in the order of `ids`, in one round trip.
    async fn read(&self, ids: &[i64]) -> Result<Vec<Lookup>, CacheError>;

    /// Stores each card unless its version is below its tombstone's, or below that of the card already there. A
    /// refused fill is no error: the reader was slow, what it read was old.
    async fn fill(&self, cards: &[Card]) -> Result<(), CacheError>;

    /// Raises each tombstone to the version (never lowers it; at an equal version the first stays) and drops an older
    /// card. Idempotent; any order of calls ends in the same state.
    async fn invalidate(&self, invalidations: &[Invalidation]) -> Result<(), CacheError>;
}
