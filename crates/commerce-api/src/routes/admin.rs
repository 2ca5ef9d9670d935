//! `/api-admin/v1/products`: the merchant's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::envelope::success;
use super::extract::{Admin, Body, PathId};
use crate::App;
use crate::commands::Context;
use crate::commands::create_products::create_products as create;
use crate::commands::set_stock::set_stock as set;
use crate::domain::NewProduct;
use crate::domain::product::{check_new_products, check_stock};
use crate::error::ApiError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductRequest {
    code: String,
    name: String,
    price: i64,
    stock: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductsRequest {
    products: Vec<ProductRequest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StockRequest {
    quantity: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedResponse {
    product_id: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AllCreatedResponse {
    /// In the order of the request.
    product_ids: Vec<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StockResponse {
    product_id: i64,
    quantity: i64,
    version: i64,
}

impl From<ProductRequest> for NewProduct {
    fn from(request: ProductRequest) -> Self {
        Self { code: request.code, name: request.name, price: request.price, stock: request.stock }
    }
}

/// `POST /api-admin/v1/products`.
pub(super) async fn create_product(
    State(app): State<Arc<App>>,
    Admin(context): Admin,
    Body(request): Body<ProductRequest>,
) -> Result<Response, ApiError> {
    let ids = checked_create(&app, &context, vec![request], 1).await?;
    let product_id = ids.first().copied().ok_or_else(|| ApiError::Internal("no id was assigned".into()))?;
    Ok(success(StatusCode::CREATED, CreatedResponse { product_id }))
}

/// `POST /api-admin/v1/products/bulk`: all or none.
pub(super) async fn create_products(
    State(app): State<Arc<App>>,
    Admin(context): Admin,
    Body(request): Body<ProductsRequest>,
) -> Result<Response, ApiError> {
    let products_max = app.settings.bulk_products_max;
    let product_ids = checked_create(&app, &context, request.products, products_max).await?;
    Ok(success(StatusCode::CREATED, AllCreatedResponse { product_ids }))
}

/// `PUT /api-admin/v1/products/{id}/stock`.
pub(super) async fn set_stock(
    State(app): State<Arc<App>>,
    Admin(context): Admin,
    PathId(product_id): PathId,
    Body(request): Body<StockRequest>,
) -> Result<Response, ApiError> {
    check_stock(request.quantity)?;
    let change = set(&app.shop, &context, product_id, request.quantity).await?;
    let response = StockResponse { product_id, quantity: change.after, version: change.version };
    Ok(success(StatusCode::OK, response))
}

async fn checked_create(
    app: &App,
    context: &Context,
    requests: Vec<ProductRequest>,
    products_max: usize,
) -> Result<Vec<i64>, ApiError> {
    let products: Vec<NewProduct> = requests.into_iter().map(Into::into).collect();
    check_new_products(&products, products_max)?;
    create(&app.shop, context, &products).await
}
