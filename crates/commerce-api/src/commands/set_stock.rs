//! The merchant says how much there is.

use super::shift_stock::{shift_one, stock_events};
use super::{Context, Shop};
use crate::domain::order::StockChange;
use crate::error::ApiError;
use crate::store::Session;
use crate::store::stock::{Shift, lock_stock};

/// Sets the units; every call raises the version, also one that changes nothing.
pub(crate) async fn set_stock(
    shop: &Shop,
    context: &Context,
    product_id: i64,
    quantity: i64,
) -> Result<StockChange, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    let Some(locked) = lock_stock(&mut session, &[product_id]).await?.pop() else {
        session.roll_back().await;
        return Err(ApiError::NoProduct { product_ids: vec![product_id] });
    };
    let shift = Shift { product_id, units: quantity - locked.quantity };
    let change = shift_one(&mut session, shift).await?;
    shop.commit(session, context, stock_events(&[change])).await?;
    Ok(change)
}
