//! Likes: given once, taken back once, however often the request is repeated.

use commerce_events::{CatalogEvent, Event, ProductLikeV1};

use super::{Context, Shop};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::likes::{UNKNOWN_PRODUCT, delete_like, insert_like};

/// Whether the like is new.
pub(crate) async fn like_product(shop: &Shop, context: &Context, product_id: i64) -> Result<bool, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    match insert_like(&mut session, context.user_id, product_id).await {
        Ok(true) => {}
        Ok(false) => {
            session.roll_back().await;
            return Ok(false);
        }
        Err(error) => {
            session.roll_back().await;
            return Err(if error.is_refusal_of(UNKNOWN_PRODUCT) {
                ApiError::NoProduct { product_ids: vec![product_id] }
            } else {
                error.into()
            });
        }
    }
    let liked = CatalogEvent::Liked(ProductLikeV1 { product_id, user_id: context.user_id });
    shop.commit(session, context, [Event::Catalog(liked)]).await?;
    Ok(true)
}

/// Whether there was a like to take back.
pub(crate) async fn unlike_product(
    shop: &Shop,
    context: &Context,
    product_id: i64,
) -> Result<bool, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    let unliked = delete_like(&mut session, context.user_id, product_id).await?;
    if !unliked.changed {
        session.roll_back().await;
        return if unliked.known {
            Ok(false)
        } else {
            Err(ApiError::NoProduct { product_ids: vec![product_id] })
        };
    }
    let unliked = CatalogEvent::Unliked(ProductLikeV1 { product_id, user_id: context.user_id });
    shop.commit(session, context, [Event::Catalog(unliked)]).await?;
    Ok(true)
}
