//! What a buyer sees of products: the cached card, the newest known state of stock, and counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use product_cache::{CacheGuard, Card, GuardNews, Invalidation, Lookup, ProductCache};
use runtime::database::Pool;

use crate::batch_reader::{BatchReader, BatchReaderTask, Loaded, Source, batch_reader};
use crate::counts::in_time;
use crate::error::ApiError;
use crate::metrics;
use crate::settings::ApiSettings;
use crate::store::Session;
use crate::store::catalog::list_cards;

const CACHE_NEWS: GuardNews = GuardNews {
    left_out: "cache does not answer: cards are read from the database",
    made_again: "cache answers: cards are read from it again",
};

/// Cards of products that are not in the cache, from the database.
pub(crate) struct CardSource {
    pool: Pool,
    cache: Arc<dyn ProductCache>,
    /// Of [`Catalog`].
    guard: Arc<CacheGuard>,
}

impl Source for CardSource {
    type Key = i64;
    type Value = Card;

    async fn load(&self, ids: &[i64]) -> Loaded<i64, Card> {
        let mut session = Session::open(&self.pool).await?;
        let cards = list_cards(&mut session, ids).await?;
        session.release();
        Ok(cards.into_iter().map(|card| (card.product_id, card)).collect())
    }

    /// Fills after the answers: a slow cache delays no page, and one that is away costs only the next read.
    async fn answered(&self, values: &HashMap<i64, Card>) {
        let cards: Vec<Card> = values.values().cloned().collect();
        if let Err(error) = self.guard.call(self.cache.fill(&cards)).await {
            tracing::debug!(%error, "cards were not cached");
        }
    }
}

/// Whether a product was sold out at a version of its stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StockState {
    pub(crate) version: i64,
    pub(crate) sold_out: bool,
}

/// Reads products for buyers.
pub(crate) struct Catalog {
    cache: Arc<dyn ProductCache>,
    /// In front of reads and fills. Invalidations are rare, and worth their wait.
    guard: Arc<CacheGuard>,
    cards: BatchReader<i64, Card>,
}

/// The catalog, and the task that reads what the cache does not know.
pub(crate) fn catalog(
    pool: Pool,
    cache: Arc<dyn ProductCache>,
    settings: &ApiSettings,
) -> (Catalog, BatchReaderTask<CardSource>) {
    let guard = CacheGuard::new(settings.cache_breaker(), metrics::cache_breaker(), CACHE_NEWS);
    let guard = Arc::new(guard);
    let source = CardSource { pool, cache: Arc::clone(&cache), guard: Arc::clone(&guard) };
    let (cards, task) = batch_reader(source, settings.read_queue_max, settings.read_batch_max);
    (Catalog { cache, guard, cards }, task)
}

impl Catalog {
    /// The products that exist, in the order of `ids`, each with the newest known `sold_out`.
    ///
    /// # Errors
    /// Only when cache and database both lack a product's card.
    pub(crate) async fn list_products(&self, ids: &[i64]) -> Result<Vec<Card>, ApiError> {
        let lookups = self.look_up(ids).await;
        let missing = missing(ids, &lookups);
        let loaded = if missing.is_empty() { None } else { Some(self.cards.read(missing).await?) };
        let find = |id: &i64| loaded.as_ref().and_then(|loaded| loaded.get(id));
        Ok(ids.iter().zip(lookups).filter_map(|(id, lookup)| newest(lookup, find(id))).collect())
    }

    /// The newest state of stock that is known of each of `ids`, in their order, from one read of the cache; `None` when it
    /// cannot be had within `wait`.
    pub(crate) async fn list_stocks(&self, ids: &[i64], wait: Duration) -> Vec<Option<StockState>> {
        let lookups = self.look_up(ids).await;
        let missing = missing(ids, &lookups);
        let loaded = match missing.is_empty() {
            true => None,
            false => in_time(wait, "cards", self.cards.read(missing)).await,
        };
        let loaded = loaded.unwrap_or_default();
        ids.iter().zip(&lookups).map(|(id, lookup)| newest_stock(lookup, loaded.get(id))).collect()
    }

    /// Takes cards that were read before a committed change out of every process's cache. Best effort: when the cache does
    /// not answer, or this process dies before, an old card stays until its time is up (`cache.card_ttl`).
    pub(crate) async fn changed(&self, change: Invalidation) {
        if let Err(error) = self.cache.invalidate(&[change]).await {
            let product_id = change.product_id;
            tracing::warn!(%error, product.id = product_id, "a changed product keeps its card until that expires");
        }
    }

    /// A cache that does not answer knows nothing; the batched read then bounds what reaches the database.
    async fn look_up(&self, ids: &[i64]) -> Vec<Lookup> {
        match self.guard.call(self.cache.read(ids)).await {
            Ok(Some(lookups)) if lookups.len() == ids.len() => lookups,
            Ok(_) => vec![Lookup::default(); ids.len()],
            Err(error) => {
                tracing::debug!(%error, "cards are read from the database");
                vec![Lookup::default(); ids.len()]
            }
        }
    }
}

fn missing(ids: &[i64], lookups: &[Lookup]) -> Vec<i64> {
    ids.iter().zip(lookups).filter(|(_, lookup)| lookup.card.is_none()).map(|(id, _)| *id).collect()
}

fn newest_stock(lookup: &Lookup, loaded: Option<&Card>) -> Option<StockState> {
    let card = lookup.card.as_ref().or(loaded);
    let card = card.map(|card| StockState { version: card.stock_version, sold_out: card.sold_out });
    let tombstone = lookup.tombstone;
    let tombstone = tombstone.map(|raised| StockState { version: raised.version, sold_out: raised.sold_out });
    // At the same version the card tells, as on a page: the last of equals is taken.
    [tombstone, card].into_iter().flatten().max_by_key(|state| state.version)
}

fn newest(mut lookup: Lookup, loaded: Option<&Card>) -> Option<Card> {
    let mut card = lookup.card.take().or_else(|| loaded.cloned())?;
    card.sold_out = lookup.sold_out(&card);
    Some(card)
}
