//! Changing stock inside a command's transaction, and the events that a change is.

use commerce_events::Event;

use crate::domain::order::{StockChange, stock_event};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::stock::{Shift, Shifted, shift_stock as shift};

/// Changes stocks that the transaction has locked; answers each of them, in product order.
pub(super) async fn shift_stock(
    session: &mut Session,
    shifts: &[Shift],
) -> Result<Vec<StockChange>, ApiError> {
    let shifted = shift(session, shifts).await?;
    if shifted.len() != shifts.len() {
        return Err(ApiError::Internal("a locked stock was not changed".into()));
    }
    // `shifts` is in product order as well.
    Ok(shifts.iter().zip(shifted).map(|(shift, shifted)| changed(shift, &shifted)).collect())
}

/// Changes one stock that the transaction has locked.
pub(super) async fn shift_one(session: &mut Session, shift: Shift) -> Result<StockChange, ApiError> {
    let changed = shift_stock(session, &[shift]).await?.pop();
    changed.ok_or_else(|| ApiError::Internal("a locked stock was not changed".into()))
}

/// The events of those changes that cross zero.
pub(super) fn stock_events(changed: &[StockChange]) -> impl Iterator<Item = Event> {
    changed.iter().filter_map(stock_event).map(Event::Stock)
}

fn changed(shift: &Shift, shifted: &Shifted) -> StockChange {
    StockChange {
        product_id: shifted.product_id,
        before: shifted.quantity - shift.units,
        after: shifted.quantity,
        version: shifted.version,
    }
}
