//! The merchant adds to what there is, or takes from it, without knowing how much that is.

use super::shift_stock::{shift_one, stock_events};
use super::{Context, Shop};
use crate::domain::order::StockChange;
use crate::domain::product::check_stock;
use crate::error::ApiError;
use crate::store::Session;
use crate::store::stock::{Locked, Shift, lock_stock};

/// Units to add, or to take when negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adjustment {
    pub(crate) units: i64,
    /// Only while the stock has this version: makes it safe to repeat a request whose answer was lost.
    pub(crate) expected_version: Option<i64>,
}

/// Adjusts the stock; it stays within `0..=stock_max`.
pub(crate) async fn adjust_stock(
    shop: &Shop,
    context: &Context,
    product_id: i64,
    adjustment: Adjustment,
    stock_max: i64,
) -> Result<StockChange, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    let locked = lock_stock(&mut session, &[product_id]).await?.pop();
    let checked = locked
        .ok_or_else(|| ApiError::NoProduct { product_ids: vec![product_id] })
        .and_then(|locked| check(&locked, adjustment, stock_max));
    if let Err(refusal) = checked {
        session.roll_back().await;
        return Err(refusal);
    }
    let change = shift_one(&mut session, Shift { product_id, units: adjustment.units }).await?;
    shop.commit(session, context, stock_events(&[change])).await?;
    Ok(change)
}

fn check(locked: &Locked, adjustment: Adjustment, stock_max: i64) -> Result<(), ApiError> {
    if adjustment.expected_version.is_some_and(|expected| expected != locked.version) {
        return Err(ApiError::VersionChanged { version: locked.version });
    }
    let after = locked.quantity.saturating_add(adjustment.units);
    if after < 0 {
        return Err(ApiError::SoldOut { product_ids: vec![locked.product_id] });
    }
    // What orders gave back may lie above the limit already; taking from it is allowed.
    if adjustment.units > 0 { Ok(check_stock(after, stock_max)?) } else { Ok(()) }
}
