//! Cancelling: only the buyer's own order, and only once; its stock goes back.

use commerce_events::{Event, OrderEvent, OrderV1};

use super::shift_stock::{shift_stock, stock_events};
use super::{Context, Shop};
use crate::domain::order::units_by_product;
use crate::error::ApiError;
use crate::store::Session;
use crate::store::orders::{cancel_order as mark_cancelled, find_order, list_lines};
use crate::store::stock::{Shift, lock_stock};

/// Whether this call cancelled it; false when it was cancelled before.
pub(crate) async fn cancel_order(shop: &Shop, context: &Context, order_id: i64) -> Result<bool, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    if !mark_cancelled(&mut session, context.user_id, order_id, context.now).await? {
        let order = find_order(&mut session, context.user_id, order_id).await?;
        session.roll_back().await;
        return if order.is_some() { Ok(false) } else { Err(ApiError::NoOrder) };
    }
    let lines = list_lines(&mut session, order_id).await?;
    let shifts: Vec<Shift> = units_by_product(&lines)
        .iter()
        .map(|units| Shift { product_id: units.product_id, units: units.quantity })
        .collect();
    let products: Vec<i64> = shifts.iter().map(|shift| shift.product_id).collect();
    lock_stock(&mut session, &products).await?;
    let changed = shift_stock(&mut session, &shifts).await?;
    let cancelled =
        OrderV1 { order_id, user_id: Some(context.user_id), lines: lines.iter().map(Into::into).collect() };
    let events =
        std::iter::once(Event::Order(OrderEvent::Cancelled(cancelled))).chain(stock_events(&changed));
    shop.commit(session, context, events).await?;
    Ok(true)
}
