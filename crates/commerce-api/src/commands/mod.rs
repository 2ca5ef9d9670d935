//! What can be done to the shop, one file each: every change and its events in one transaction.

pub(crate) mod adjust_stock;
pub(crate) mod cancel_order;
pub(crate) mod change_product;
pub(crate) mod create_products;
pub mod import;
pub(crate) mod like_product;
pub(crate) mod like_products;
pub(crate) mod place_order;
pub(crate) mod place_orders;
pub(crate) mod record_views;
pub(crate) mod set_stock;
mod shift_stock;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use commerce_events::Event;
use runtime::Clock;
use runtime::database::Pool;

use crate::error::ApiError;
use crate::event_log::{EventLog, Occurrence};
use crate::store::{Session, StoreError};

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
    /// The time of day as the database keeps it, so that a time is the same when it is read again.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(6)
    }

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

/// Why a group of commands has no answers.
pub(crate) enum GroupError {
    /// Nothing of it happened.
    Undone(ApiError),
    /// Whether it happened is not known.
    Unknown(Arc<StoreError>),
}

impl<E: Into<ApiError>> From<E> for GroupError {
    fn from(error: E) -> Self {
        Self::Undone(error.into())
    }
}

/// Commits what a group did, and wakes a relay in the same process.
pub(crate) async fn commit(shop: &Shop, session: Session) -> Result<(), GroupError> {
    session.commit().await.map_err(|error| match error {
        StoreError::Away(_) => GroupError::Unknown(Arc::new(error)),
        StoreError::Busy | StoreError::Refused { .. } | StoreError::Statement(_) => error.into(),
    })?;
    shop.log.committed();
    Ok(())
}
