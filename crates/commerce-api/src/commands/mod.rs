//! What can be done to the shop, one file each: every change and its events in one transaction.

pub(crate) mod cancel_order;
pub(crate) mod create_products;
pub mod import;
pub(crate) mod like_product;
pub(crate) mod place_order;
pub(crate) mod record_views;
pub(crate) mod set_stock;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use commerce_events::Event;
use runtime::Clock;
use runtime::database::Pool;

use crate::domain::order::{StockChange, stock_event};
use crate::error::ApiError;
use crate::event_log::{EventLog, Occurrence};
use crate::store::Session;

/// What commands work on.
pub(crate) struct Shop {
    pub(crate) pool: Pool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: EventLog,
}

/// Who asks, when.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) user_id: i64,
    pub(crate) now: DateTime<Utc>,
    pub(crate) traceparent: Option<String>,
}

impl Shop {
    /// Appends `events`, commits both, and wakes a relay in the same process.
    pub(crate) async fn commit(
        &self,
        mut session: Session,
        context: &Context,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<(), ApiError> {
        let occurrences: Vec<Occurrence<'_>> = events
            .into_iter()
            .map(|event| Occurrence {
                event,
                occurred_at: context.now,
                traceparent: context.traceparent.as_deref(),
            })
            .collect();
        self.log.append(&mut session, &occurrences).await?;
        session.commit().await?;
        self.log.committed();
        Ok(())
    }
}

/// The events of those changes that cross zero.
fn stock_events<'a>(changes: impl IntoIterator<Item = &'a StockChange>) -> impl Iterator<Item = Event> {
    changes.into_iter().filter_map(stock_event).map(Event::Stock)
}
