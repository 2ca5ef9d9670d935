//! New products, all or none. No event: what is sold out from the start is read from the database until it changes.

use super::{Context, Shop};
use crate::domain::NewProduct;
use crate::error::ApiError;
use crate::store::Session;
use crate::store::products::{CODE_TAKEN, insert_products, list_taken_codes};

/// The new ids, in the order of `products`.
pub(crate) async fn create_products(
    shop: &Shop,
    context: &Context,
    products: &[NewProduct],
) -> Result<Vec<i64>, ApiError> {
    let mut session = Session::begin(&shop.pool).await?;
    let ids = match insert_products(&mut session, products).await {
        Ok(ids) => ids,
        Err(error) => {
            session.roll_back().await;
            if !error.is_refusal_of(CODE_TAKEN) {
                return Err(error.into());
            }
            let mut session = Session::open(&shop.pool).await?;
            let codes = list_taken_codes(&mut session, products).await?;
            session.release();
            return Err(ApiError::CodeTaken { codes });
        }
    };
    shop.commit(session, context, []).await?;
    Ok(ids)
}
