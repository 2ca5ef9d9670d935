//! The products with the highest counts, for lists: each order is read as a whole and remembered for a moment.
//!
//! What is remembered of an order is at most the ids down to the end of the deepest page, and one more.

use std::sync::Arc;

use runtime::database::Pool;

use crate::remembered::{ReadOne, Remembered};
use crate::store::counts::{CountOrder, list_most_counted};
use crate::store::{Session, StoreError};

/// The products that have any of a count, the highest first.
pub(crate) type CountOrders = Remembered<CountOrder, Arc<[i64]>>;

/// Orders from the streamer's database.
pub(crate) struct CountOrderSource {
    pub(crate) pool: Pool,
    /// Products that are read of each order.
    pub(crate) ids_max: usize,
}

impl ReadOne for CountOrderSource {
    type Key = CountOrder;
    type Value = Arc<[i64]>;

    async fn read_one(&self, order: CountOrder) -> Result<Arc<[i64]>, StoreError> {
        let mut session = Session::open(&self.pool).await?;
        let ids = list_most_counted(&mut session, order, self.ids_max).await?;
        session.release();
        Ok(ids.into())
    }
}
