//! The merchant changes what buyers read of a product. No event: nothing is counted by it.
//!
//! The change raises the version of the product's stock, which is the version of its card: a card that was read before
//! the change is then older than every card that is read after it, and the cache can tell. The row of the stock is the
//! lock as well, so a change and an order of the product follow each other, and the order is charged one of both prices.

use product_cache::Invalidation;

use super::shift_stock::shift_one;
use super::{Context, Shop};
use crate::domain::product::{FactsChange, ProductFacts};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::products::{find_facts, update_facts};
use crate::store::stock::{Locked, Shift, lock_stock};

/// A product after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangedProduct {
    pub(crate) facts: ProductFacts,
    /// Which cards are older than the change; also when nothing was changed, so that a repeated request repairs what an
    /// earlier one could not finish.
    pub(crate) invalidation: Invalidation,
    /// Whether this call changed anything.
    pub(crate) changed: bool,
}

/// Changes the facts that `change` names.
pub(crate) async fn change_product(
    shop: &Shop,
    context: &Context,
    product_id: i64,
    change: &FactsChange,
) -> Result<ChangedProduct, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    let locked = lock_stock(&mut session, &[product_id]).await?.pop();
    let known = match locked {
        // After the lock, so that the facts are the newest.
        Some(locked) => find_facts(&mut session, product_id).await?.map(|before| (locked, before)),
        None => None,
    };
    let Some((locked, before)) = known else {
        session.roll_back().await;
        return Err(ApiError::NoProduct { product_ids: vec![product_id] });
    };
    let facts = change.apply(&before);
    if facts == before {
        session.roll_back().await;
        return Ok(ChangedProduct { facts, invalidation: invalidation(&locked), changed: false });
    }
    if !update_facts(&mut session, product_id, &facts).await? {
        return Err(ApiError::Internal("a locked product was not changed".into()));
    }
    let version = shift_one(&mut session, Shift { product_id, units: 0 }).await?.version;
    shop.commit(session, context, []).await?;
    Ok(ChangedProduct { facts, invalidation: invalidation(&Locked { version, ..locked }), changed: true })
}

fn invalidation(stock: &Locked) -> Invalidation {
    Invalidation { product_id: stock.product_id, version: stock.version, sold_out: stock.quantity == 0 }
}
