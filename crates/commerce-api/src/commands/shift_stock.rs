//! Changing stock inside a command's transaction, and the events that a change is.

use commerce_events::Event;

use crate::domain::order::{StockChange, stock_event};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::stock::{Shift, Shifted, shift_stock as shift};

/// A stock that was changed.
pub(super) struct Changed {
    pub(super) change: StockChange,
    /// Minor units for one.
    pub(super) unit_price: i64,
}

/// Changes stocks that the transaction has locked; answers each of them, in product order.
pub(super) async fn shift_stock(session: &mut Session, shifts: &[Shift]) -> Result<Vec<Changed>, ApiError> {
    let shifted = shift(session, shifts).await?;
    if shifted.len() != shifts.len() {
        return Err(ApiError::Internal("a locked stock was not changed".into()));
    }
    // `shifts` is in product order as well.
    Ok(shifts.iter().zip(shifted).map(|(shift, shifted)| changed(shift, &shifted)).collect())
}

/// The events of those changes that cross zero.
pub(super) fn stock_events(changed: &[Changed]) -> impl Iterator<Item = Event> {
    changed.iter().filter_map(|changed| stock_event(&changed.change)).map(Event::Stock)
}

fn changed(shift: &Shift, shifted: &Shifted) -> Changed {
    let change = StockChange {
        product_id: shifted.product_id,
        before: shifted.quantity - shift.units,
        after: shifted.quantity,
        version: shifted.version,
    };
    Changed { change, unit_price: shifted.price }
}
