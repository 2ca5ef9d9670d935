//! What can be done to the shop, one file each: every change and its events in one transaction.

pub(crate) mod adjust_stock;
pub(crate) mod cancel_order;
pub(crate) mod change_product;
pub(crate) mod create_products;
pub mod import;
pub(crate) mod like_product;
pub(crate) mod place_order;
pub(crate) mod record_views;
pub(crate) mod set_stock;
mod shift_stock;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use commerce_events::Event;
use runtime::Clock;
use runtime::database::Pool;

use crate::error::ApiError;
use crate::event_log::{EventLog, Occurrence};
use crate::group_commit::GroupError;
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
        session: Session,
        context: &Context,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<(), ApiError> {
        let occurrences: Vec<Occurrence<'_>> =
            events.into_iter().map(|event| context.occurrence(event)).collect();
        self.commit_group(session, &occurrences).await.map_err(GroupError::into_error)
    }

    /// As [`Self::commit`], for a group of commands.
    pub(crate) async fn commit_group(
        &self,
        mut session: Session,
        occurrences: &[Occurrence<'_>],
    ) -> Result<(), GroupError> {
        self.log.append(&mut session, occurrences).await?;
        session.commit().await.map_err(|error| match error {
            StoreError::Away(_) => GroupError::Unknown(Arc::new(error)),
            StoreError::Busy | StoreError::Refused { .. } | StoreError::Statement(_) => error.into(),
        })?;
        self.log.committed();
        Ok(())
    }
}

impl Context {
    /// What happened because of this request.
    pub(crate) fn occurrence(&self, event: Event) -> Occurrence<'_> {
        Occurrence { event, occurred_at: self.now, traceparent: self.traceparent.as_deref() }
    }
}

/// Each product once, in the order in which everybody locks.
fn distinct(products: impl Iterator<Item = i64>) -> Vec<i64> {
    products.collect::<BTreeSet<i64>>().into_iter().collect()
}
