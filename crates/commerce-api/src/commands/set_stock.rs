//! The merchant says how much there is.

use super::{Context, Shop, stock_events};
use crate::domain::order::StockChange;
use crate::error::ApiError;
use crate::store::Session;
use crate::store::stock::set_quantity;

/// Sets the units; every call raises the version, also one that changes nothing.
pub(crate) async fn set_stock(
    shop: &Shop,
    context: &Context,
    product_id: i64,
    quantity: i64,
) -> Result<StockChange, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    let Some(change) = set_quantity(&mut session, product_id, quantity).await? else {
        session.roll_back().await;
        return Err(ApiError::NoProduct { product_ids: vec![product_id] });
    };
    shop.commit(session, context, stock_events([&change])).await?;
    Ok(change)
}
