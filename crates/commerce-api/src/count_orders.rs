//! The products with the highest counts, for lists: each order is read as a whole and remembered for a moment.
//!
//! What is remembered of an order is at most the ids down to the end of the deepest page, and one more.

use std::collections::HashMap;
use std::sync::Arc;

use runtime::database::Pool;
use tokio::time::Instant;

use crate::batch_reader::{Loaded, Source};
use crate::remembered::{Memory, Remembered};
use crate::store::Session;
use crate::store::counts::{CountOrder, list_most_counted};

/// The products that have any of a count, the highest first.
pub(crate) type CountOrders = Remembered<CountOrder, Arc<[i64]>>;

/// Orders from the streamer's database.
pub(crate) struct CountOrderSource {
    pub(crate) pool: Pool,
    /// Products that are read of each order.
    pub(crate) ids_max: usize,
    pub(crate) memory: Memory<CountOrder, Arc<[i64]>>,
}

impl Source for CountOrderSource {
    type Key = CountOrder;
    type Value = Arc<[i64]>;

    async fn load(&self, orders: &[CountOrder]) -> Loaded<CountOrder, Arc<[i64]>> {
        let mut session = Session::open(&self.pool).await?;
        let mut loaded = HashMap::with_capacity(orders.len());
        for order in orders {
            if let Some(ids) = self.memory.find_young(*order) {
                loaded.insert(*order, ids);
                continue;
            }
            let read_at = Instant::now();
            let ids: Arc<[i64]> = list_most_counted(&mut session, *order, self.ids_max).await?.into();
            self.memory.insert(*order, read_at, Arc::clone(&ids));
            loaded.insert(*order, ids);
        }
        session.release();
        Ok(loaded)
    }
}
