//! `/api/v1/like/products`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::envelope::success;
use super::extract::{Buyer, PathId, Slice};
use super::products::product_page;
use crate::App;
use crate::commands::like_product::{like_product, unlike_product};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::likes::list_liked;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LikeResponse {
    product_id: i64,
    liked: bool,
    /// Whether this request changed it.
    changed: bool,
}

/// `POST /api/v1/like/products/{id}`.
pub(super) async fn like(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    PathId(product_id): PathId,
) -> Result<Response, ApiError> {
    let changed = like_product(&app.shop, &context, product_id).await?;
    Ok(success(StatusCode::OK, LikeResponse { product_id, liked: true, changed }))
}

/// `DELETE /api/v1/like/products/{id}`.
pub(super) async fn unlike(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    PathId(product_id): PathId,
) -> Result<Response, ApiError> {
    let changed = unlike_product(&app.shop, &context, product_id).await?;
    Ok(success(StatusCode::OK, LikeResponse { product_id, liked: false, changed }))
}

/// `GET /api/v1/like/products`: the buyer's own, the latest like first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    Slice(page): Slice,
) -> Result<Response, ApiError> {
    let mut session = Session::open(&app.shop.pool).await?;
    let ids = list_liked(&mut session, context.user_id, page).await?;
    session.release();
    Ok(success(StatusCode::OK, product_page(&app, ids, page).await?))
}
