//! `/api-admin/v1/products`: the merchant's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize};

use super::envelope::success;
use super::extract::{Admin, Body, PathId};
use crate::App;
use crate::commands::Context;
use crate::commands::adjust_stock::{Adjustment, adjust_stock as adjust};
use crate::commands::change_product::{ChangedProduct, change_product as change_facts};
use crate::commands::create_products::create_products as create;
use crate::commands::set_stock::set_stock as set;
use crate::domain::order::StockChange;
use crate::domain::product::{FactsChange, ProductFacts, check_new_products, check_stock};
use crate::domain::{InvalidInput, NewProduct};
use crate::error::ApiError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductRequest {
    code: String,
    name: String,
    brand: Option<String>,
    /// Minor units.
    price: i64,
    /// Units in stock.
    stock: i64,
}

/// What is left out stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeProductRequest {
    name: Option<String>,
    /// Null takes the brand away.
    #[serde(default, deserialize_with = "named")]
    brand: Option<Option<String>>,
    /// Minor units.
    price: Option<i64>,
}

/// A field that is there, null or not; one that is left out is `None` by default.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdjustStockRequest {
    /// Units to add, or to take when negative.
    delta: i64,
    /// Refused when the stock has another version: a repeated request then changes nothing twice.
    version: Option<i64>,
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
struct ChangedProductResponse {
    product_id: i64,
    name: String,
    brand: Option<String>,
    price: i64,
    version: i64,
    /// Whether this request changed it.
    changed: bool,
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
        let facts = ProductFacts { name: request.name, brand: request.brand, price: request.price };
        Self { code: request.code, facts, stock: request.stock }
    }
}

impl StockResponse {
    fn new(change: &StockChange) -> Self {
        Self { product_id: change.product_id, quantity: change.after, version: change.version }
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
    check_stock(request.quantity, app.settings.stock_max)?;
    let change = set(&app.shop, &context, product_id, request.quantity).await?;
    Ok(success(StatusCode::OK, StockResponse::new(&change)))
}

/// `POST /api-admin/v1/products/{id}/stock/adjust`: adds to the stock or takes from it.
pub(super) async fn adjust_stock(
    State(app): State<Arc<App>>,
    Admin(context): Admin,
    PathId(product_id): PathId,
    Body(request): Body<AdjustStockRequest>,
) -> Result<Response, ApiError> {
    if request.delta == 0 {
        return Err(InvalidInput::NothingToChange.into());
    }
    let adjustment = Adjustment { units: request.delta, expected_version: request.version };
    let change = adjust(&app.shop, &context, product_id, adjustment, app.settings.stock_max).await?;
    Ok(success(StatusCode::OK, StockResponse::new(&change)))
}

/// `PATCH /api-admin/v1/products/{id}`: changes name, brand or price.
pub(super) async fn change_product(
    State(app): State<Arc<App>>,
    Admin(context): Admin,
    PathId(product_id): PathId,
    Body(request): Body<ChangeProductRequest>,
) -> Result<Response, ApiError> {
    let change = FactsChange { name: request.name, brand: request.brand, price: request.price };
    change.check(&app.settings.product_limits())?;
    let ChangedProduct { facts, invalidation, changed } =
        change_facts(&app.shop, &context, product_id, &change).await?;
    app.catalog.changed(invalidation).await;
    let ProductFacts { name, brand, price } = facts;
    let version = invalidation.version;
    let response = ChangedProductResponse { product_id, name, brand, price, version, changed };
    Ok(success(StatusCode::OK, response))
}

async fn checked_create(
    app: &App,
    context: &Context,
    requests: Vec<ProductRequest>,
    products_max: usize,
) -> Result<Vec<i64>, ApiError> {
    let products: Vec<NewProduct> = requests.into_iter().map(Into::into).collect();
    check_new_products(&products, products_max, &app.settings.product_limits())?;
    create(&app.shop, context, &products).await
}
