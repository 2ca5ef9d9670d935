//! The products with the highest counts, for lists: read as a whole, remembered for a moment.
//!
//! Invariants: at most one read of an order runs at a time, and none more often than every `api.count_order_age_max`;
//! what is remembered of an order is at most the ids down to the end of the deepest page, and one more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use runtime::database::Pool;
use tokio::time::Instant;

use crate::batch_reader::{BatchReader, Loaded, Source};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::counts::{CountOrder, list_most_counted};

type Recent = Cache<CountOrder, (Instant, Arc<[i64]>)>;

/// Orders from the streamer's database.
pub(crate) struct CountOrderSource {
    pool: Pool,
    ids_max: usize,
    recent: Recent,
}

impl CountOrderSource {
    /// `ids_max` products of each order are read.
    pub(crate) fn new(pool: Pool, ids_max: usize) -> Self {
        // One entry an order; there are three.
        Self { pool, ids_max, recent: Cache::builder().max_capacity(16).build() }
    }

    /// Takes a handle on the memory, for [`CountOrders::new`].
    pub(crate) fn recent(&self) -> Recent {
        self.recent.clone()
    }
}

impl Source for CountOrderSource {
    type Key = CountOrder;
    type Value = Arc<[i64]>;

    async fn load(&self, orders: &[CountOrder]) -> Loaded<CountOrder, Arc<[i64]>> {
        let mut session = Session::open(&self.pool).await?;
        let mut loaded = HashMap::with_capacity(orders.len());
        for order in orders {
            // The age of an order counts from before its read.
            let read_at = Instant::now();
            let ids: Arc<[i64]> = list_most_counted(&mut session, *order, self.ids_max).await?.into();
            self.recent.insert(*order, (read_at, Arc::clone(&ids)));
            loaded.insert(*order, ids);
        }
        session.release();
        Ok(loaded)
    }
}

/// Reads orders for lists.
pub(crate) struct CountOrders {
    recent: Recent,
    reader: BatchReader<CountOrder, Arc<[i64]>>,
    age_max: Duration,
}

impl CountOrders {
    pub(crate) fn new(
        recent: Recent,
        reader: BatchReader<CountOrder, Arc<[i64]>>,
        age_max: Duration,
    ) -> Self {
        Self { recent, reader, age_max }
    }

    /// The products that have any of the count, the highest first, no older than the limit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn read(&self, order: CountOrder) -> Result<Arc<[i64]>, ApiError> {
        if let Some((read_at, ids)) = self.recent.get(&order)
            && read_at.elapsed() <= self.age_max
        {
            return Ok(ids);
        }
        let loaded = self.reader.read(vec![order]).await?;
        loaded.get(&order).cloned().ok_or_else(|| ApiError::Internal("an order was not read".into()))
    }
}
