//! `[cache]`.

use std::time::Duration;

use serde::Deserialize;

use crate::CacheError;

/// Limits and lifetimes of the cache.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// In front of every key, so that several systems can share one server. Without `{`.
    pub key_prefix: String,
    /// The longest life of a card; each lives a random half to whole of it, so that cards do not expire together.
    #[serde(with = "humantime_serde")]
    pub card_ttl: Duration,
    /// Life of a tombstone: far longer than the slowest fill, at least twice `card_ttl`.
    #[serde(with = "humantime_serde")]
    pub tombstone_ttl: Duration,
    /// How long one call may take; also the limit of a connection attempt.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Cards that the in-process cache holds; a fill beyond it is dropped.
    pub local_cards_max: usize,
}

impl CacheSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`CacheError::Settings`] names the key.
    pub fn validate(&self) -> Result<(), CacheError> {
        let refuse = |text: &str| Err(CacheError::Settings(text.to_owned()));
        if self.key_prefix.contains(['{', '}']) {
            return refuse("cache.key_prefix must not contain braces: they choose the slot of a key");
        }
        if self.card_ttl < Duration::from_millis(2) {
            return refuse("cache.card_ttl must be at least 2ms");
        }
        if self.tombstone_ttl < self.card_ttl * 2 {
            return refuse("cache.tombstone_ttl must be at least twice cache.card_ttl");
        }
        if self.timeout.is_zero() {
            return refuse("cache.timeout must be above zero");
        }
        Ok(())
    }
}
