//! The protocol inside one process, for `commerce all` without Redis. Must not be used where several processes
//! serve the same products: nothing invalidates the others.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::metrics::{self, LookupMetrics};
use crate::{CacheError, CacheSettings, Card, Invalidation, Lookup, ProductCache, Tombstone};

/// Enough that threads seldom wait for each other.
const SHARDS: usize = 16;

/// Sharded maps with lifetimes.
#[derive(Debug)]
pub struct LocalCache {
    shards: [Mutex<HashMap<i64, Slot>>; SHARDS],
    settings: CacheSettings,
    jitter: RandomState,
    lookups: LookupMetrics,
}

/// Both entries of a product: changed under one lock, so that no reader sees one without the other.
#[derive(Debug, Default)]
struct Slot {
    card: Option<(Card, Instant)>,
    tombstone: Option<(Tombstone, Instant)>,
}

impl Slot {
    fn live(&self, now: Instant) -> Lookup {
        Lookup {
            card: self.card.as_ref().filter(|(_, end)| now < *end).map(|(card, _)| card.clone()),
            tombstone: self.tombstone.filter(|(_, end)| now < *end).map(|(tombstone, _)| tombstone),
        }
    }

    fn expire(&mut self, now: Instant) {
        self.card.take_if(|(_, end)| now >= *end);
        self.tombstone.take_if(|(_, end)| now >= *end);
    }

    fn is_empty(&self) -> bool {
        self.card.is_none() && self.tombstone.is_none()
    }

    fn refuses(&self, version: i64) -> bool {
        self.tombstone.is_some_and(|(tombstone, _)| version < tombstone.version)
            || self.card.as_ref().is_some_and(|(card, _)| version < card.stock_version)
    }
}

impl LocalCache {
    /// An empty cache.
    ///
    /// # Errors
    /// [`CacheError::Settings`] when the settings cannot be used.
    pub fn new(settings: CacheSettings) -> Result<Self, CacheError> {
        settings.validate()?;
        let shards = std::array::from_fn(|_| Mutex::new(HashMap::new()));
        Ok(Self { shards, settings, jitter: RandomState::new(), lookups: LookupMetrics::new() })
    }

    fn shard(&self, product_id: i64) -> MutexGuard<'_, HashMap<i64, Slot>> {
        let shards = i64::try_from(SHARDS).unwrap_or(1);
        let index = usize::try_from(product_id.rem_euclid(shards)).unwrap_or(0);
        // A panic of another thread cannot leave a slot half changed: each change is one assignment.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn card_end(&self, product_id: i64, now: Instant) -> Instant {
        let half = self.settings.card_ttl / 2;
        let spread = self.jitter.hash_one((product_id, now)) % 1_000;
        now + half + half * u32::try_from(spread).unwrap_or(0) / 1_000
    }

    fn fill_one(&self, card: &Card, now: Instant) -> bool {
        let end = self.card_end(card.product_id, now);
        let cards_max = self.settings.local_cards_max.div_ceil(SHARDS);
        let mut shard = self.shard(card.product_id);
        if shard.len() >= cards_max && !shard.contains_key(&card.product_id) {
            shard.retain(|_, slot| {
                slot.expire(now);
                !slot.is_empty()
            });
            if shard.len() >= cards_max {
                return false;
            }
        }
        let slot = shard.entry(card.product_id).or_default();
        slot.expire(now);
        let stored = !slot.refuses(card.stock_version);
        if stored {
            slot.card = Some((card.clone(), end));
        }
        stored
    }

    fn invalidate_one(&self, invalidation: &Invalidation, now: Instant, ttl: Duration) -> bool {
        let mut shard = self.shard(invalidation.product_id);
        let slot = shard.entry(invalidation.product_id).or_default();
        slot.expire(now);
        let known = slot.tombstone.map(|(tombstone, _)| tombstone);
        let raised = known.is_none_or(|tombstone| tombstone.version < invalidation.version);
        let named = Tombstone { version: invalidation.version, sold_out: invalidation.sold_out };
        let kept = known.filter(|_| !raised).unwrap_or(named);
        slot.tombstone = Some((kept, now + ttl));
        slot.card.take_if(|(card, _)| card.stock_version < invalidation.version);
        raised
    }
}

#[async_trait]
impl ProductCache for LocalCache {
    async fn read(&self, ids: &[i64]) -> Result<Vec<Lookup>, CacheError> {
        let now = Instant::now();
        let lookups: Vec<Lookup> = ids
            .iter()
            .map(|id| self.shard(*id).get(id).map_or_else(Lookup::default, |slot| slot.live(now)))
            .collect();
        let hits = lookups.iter().filter(|lookup| lookup.card.is_some()).count();
        self.lookups.add(hits, ids.len() - hits);
        Ok(lookups)
    }

    async fn fill(&self, cards: &[Card]) -> Result<(), CacheError> {
        let now = Instant::now();
        let stored = cards.iter().filter(|card| self.fill_one(card, now)).count();
        metrics::fills(stored, cards.len() - stored);
        Ok(())
    }

    async fn invalidate(&self, invalidations: &[Invalidation]) -> Result<(), CacheError> {
        let now = Instant::now();
        let ttl = self.settings.tombstone_ttl;
        let raised = invalidations.iter().filter(|one| self.invalidate_one(one, now, ttl)).count();
        metrics::invalidations(raised, invalidations.len() - raised);
        Ok(())
    }
}
