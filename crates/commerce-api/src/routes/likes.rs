//! `/api/v1/like/products`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::envelope::{Failure, Success, success};
use super::extract::{Buyer, PathId, Slice, SliceQuery};
use super::products::{PageResponse, ProductResponse, product_page};
use crate::App;
use crate::commands::like_product::LikeProduct;
use crate::domain::page::Page;
use crate::error::ApiError;
use crate::store::Session;
use crate::store::likes::list_liked;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LikeResponse {
    product_id: i64,
    liked: bool,
    /// Whether this request changed it.
    changed: bool,
}

/// Likes a product; again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/like/products/{id}",
    operation_id = "likeProduct",
    tag = "likes",
    security(("buyer" = [])),
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, body = Success<LikeResponse>, description = "Liked now"),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`")
    )
)]
pub(super) async fn like(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    PathId(product_id): PathId,
) -> Result<Response, ApiError> {
    let changed = app.likes.call(LikeProduct { context, product_id, is_liked: true }).await?;
    Ok(success(StatusCode::OK, LikeResponse { product_id, liked: true, changed }))
}

/// Takes a like back; again changes nothing.
#[utoipa::path(
    delete,
    path = "/api/v1/like/products/{id}",
    operation_id = "unlikeProduct",
    tag = "likes",
    security(("buyer" = [])),
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, body = Success<LikeResponse>, description = "Not liked now"),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`")
    )
)]
pub(super) async fn unlike(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    PathId(product_id): PathId,
) -> Result<Response, ApiError> {
    let changed = app.likes.call(LikeProduct { context, product_id, is_liked: false }).await?;
    Ok(success(StatusCode::OK, LikeResponse { product_id, liked: false, changed }))
}

/// Lists what the buyer likes, the latest like first.
#[utoipa::path(
    get,
    path = "/api/v1/like/products",
    operation_id = "listLiked",
    tag = "likes",
    security(("buyer" = [])),
    params(SliceQuery),
    responses(
        (status = 200, body = Success<PageResponse<ProductResponse>>, description = "A page of products"),
        (status = 422, body = Failure, description = "`INVALID_PAGE`")
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    Slice(page): Slice,
) -> Result<Response, ApiError> {
    Ok(success(StatusCode::OK, load_liked(&app, context.user_id, page).await?))
}

/// A page of what this buyer likes.
pub(crate) async fn load_liked(
    app: &App,
    user_id: i64,
    page: Page,
) -> Result<PageResponse<ProductResponse>, ApiError> {
    let mut session = Session::open(&app.shop.pool).await?;
    let ids = list_liked(&mut session, user_id, page).await?;
    session.release();
    product_page(app, ids, page).await
}
