//! Views of product pages: events only, many to a transaction.

use commerce_events::{Event, ProductViewV1, ViewEvent};

use super::Shop;
use crate::error::{ApiError, Chain};
use crate::event_log::Occurrence;
use crate::store::{Session, StoreError};
use crate::views::{Recorded, View};

/// Appends one event a view and commits; a connection that broke leaves open whether the views are recorded.
pub(crate) async fn record_views(shop: &Shop, mut session: Session, views: &[View]) -> Recorded {
    let occurrences: Vec<Occurrence<'_>> = views.iter().map(occurrence).collect();
    if let Err(error) = shop.log.append(&mut session, &occurrences).await {
        // Dropping the session ends its transaction without a commit.
        tracing::warn!(error = %Chain(&ApiError::from(error)), "views are not recorded");
        return Recorded::No;
    }
    match session.commit().await {
        Ok(()) => {
            shop.log.committed();
            Recorded::Yes
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "views were not committed");
            match error {
                StoreError::Away(_) | StoreError::Busy => Recorded::Unknown,
                StoreError::Refused { .. } | StoreError::Statement(_) => Recorded::No,
            }
        }
    }
}

fn occurrence(view: &View) -> Occurrence<'_> {
    let viewed = ProductViewV1 { product_id: view.product_id, user_id: view.user_id };
    Occurrence {
        event: Event::View(ViewEvent::Viewed(viewed)),
        occurred_at: view.viewed_at,
        traceparent: view.traceparent.as_deref(),
    }
}
