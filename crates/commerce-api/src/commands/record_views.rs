//! Views of product pages: events only, many to a transaction.

use commerce_events::{Event, ProductViewV1, ViewEvent};

use super::Shop;
use crate::error::Chain;
use crate::event_log::Occurrence;
use crate::group_commit::GroupError;
use crate::store::Session;
use crate::views::{Recorded, View};

/// Appends one event a view and commits; a connection that broke leaves open whether the views are recorded.
pub(crate) async fn record_views(shop: &Shop, session: Session, views: &[View]) -> Recorded {
    let occurrences: Vec<Occurrence<'_>> = views.iter().map(occurrence).collect();
    match shop.commit_group(session, &occurrences).await {
        Ok(()) => Recorded::Yes,
        Err(GroupError::Raced(error) | GroupError::Undone(error)) => {
            tracing::warn!(error = %Chain(&error), "views are not recorded");
            Recorded::No
        }
        Err(GroupError::Unknown(error)) => {
            tracing::warn!(error = %Chain(&error), "the commit of views was not answered");
            Recorded::Unknown
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
