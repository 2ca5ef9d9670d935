//! Views of product pages: events only, many to a transaction.

use commerce_events::{Event, ProductViewV1, ViewEvent};

use super::Shop;
use crate::error::{ApiError, Chain};
use crate::event_log::Occurrence;
use crate::store::{Session, StoreError};
use crate::views::{Recorded, View};

/// Appends one event a view.
pub(crate) async fn append_views(
    shop: &Shop,
    session: &mut Session,
    views: &[&View],
) -> Result<(), ApiError> {
    let occurrences: Vec<Occurrence<'_>> = views
        .iter()
        .map(|view| Occurrence {
            event: Event::View(ViewEvent::Viewed(ProductViewV1 {
                product_id: view.product_id,
                user_id: view.user_id,
            })),
            occurred_at: view.viewed_at,
            traceparent: view.traceparent.as_deref(),
        })
        .collect();
    Ok(shop.log.append(session, &occurrences).await?)
}

/// Commits; a connection that broke leaves open whether the views are recorded.
pub(crate) async fn commit_views(shop: &Shop, session: Session) -> Recorded {
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
