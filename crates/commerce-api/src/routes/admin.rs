//! `/api-admin/v1/products`: the merchant's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use commerce_events::json::objects;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::envelope::{Failure, Success, success};
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

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductRequest {
    #[schema(min_length = 1)]
    code: String,
    #[schema(min_length = 1)]
    name: String,
    #[schema(min_length = 1)]
    brand: Option<String>,
    /// Minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    price: i64,
    /// Units in stock.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    stock: i64,
}

/// What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeProductRequest {
    #[schema(min_length = 1)]
    name: Option<String>,
    /// Null takes the brand away.
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>, min_length = 1)]
    brand: Option<Option<String>>,
    /// Minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    price: Option<i64>,
}

/// A field that is there, null or not; one that is left out is `None` by default.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductsRequest {
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1)]
    products: Vec<ProductRequest>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StockRequest {
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    quantity: i64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdjustStockRequest {
    /// Units to add, or to take when negative.
    #[schema(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    delta: i64,
    /// Refused when the stock has another version: a repeated request then changes nothing twice.
    version: Option<i64>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedResponse {
    product_id: i64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AllCreatedResponse {
    /// In the order of the request.
    product_ids: Vec<i64>,
}

#[derive(Serialize, ToSchema)]
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

#[derive(Serialize, ToSchema)]
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

/// Creates a product.
#[utoipa::path(
    post,
    path = "/api-admin/v1/products",
    operation_id = "createProduct",
    tag = "merchant",
    security(("buyer" = [], "role" = [])),
    request_body = ProductRequest,
    responses(
        (status = 201, body = Success<CreatedResponse>, description = "Created"),
        (status = 409, body = Failure, description = "`CODE_TAKEN`"),
        (status = 422, body = Failure, description = "`INVALID_CODE`, `INVALID_NAME`, `INVALID_BRAND`, `INVALID_PRICE`, `INVALID_STOCK`")
    )
)]
pub(super) async fn create_product(
    State(app): State<Arc<App>>,
    Admin(context): Admin,
    Body(request): Body<ProductRequest>,
) -> Result<Response, ApiError> {
    let ids = checked_create(&app, &context, vec![request], 1).await?;
    let product_id = ids.first().copied().ok_or_else(|| ApiError::Internal("no id was assigned".into()))?;
    Ok(success(StatusCode::CREATED, CreatedResponse { product_id }))
}

/// Creates many products: all or none.
#[utoipa::path(
    post,
    path = "/api-admin/v1/products/bulk",
    operation_id = "createProducts",
    tag = "merchant",
    security(("buyer" = [], "role" = [])),
    request_body = ProductsRequest,
    responses(
        (status = 201, body = Success<AllCreatedResponse>, description = "Created"),
        (status = 409, body = Failure, description = "`CODE_TAKEN`"),
        (status = 422, body = Failure, description = "As for one, `NO_PRODUCTS`, `TOO_MANY_PRODUCTS`, `DUPLICATE_CODE`")
    )
)]
pub(super) async fn create_products(
    State(app): State<Arc<App>>,
    Admin(context): Admin,
    Body(request): Body<ProductsRequest>,
) -> Result<Response, ApiError> {
    let products_max = app.settings.bulk_products_max;
    let product_ids = checked_create(&app, &context, request.products, products_max).await?;
    Ok(success(StatusCode::CREATED, AllCreatedResponse { product_ids }))
}

/// Says how much there is.
#[utoipa::path(
    put,
    path = "/api-admin/v1/products/{id}/stock",
    operation_id = "setStock",
    tag = "merchant",
    security(("buyer" = [], "role" = [])),
    params(("id" = i64, Path, minimum = 1)),
    request_body = StockRequest,
    responses(
        (status = 200, body = Success<StockResponse>, description = "The stock after the change"),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`"),
        (status = 422, body = Failure, description = "`INVALID_STOCK`")
    )
)]
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

/// Adds to what there is, or takes from it.
#[utoipa::path(
    post,
    path = "/api-admin/v1/products/{id}/stock/adjust",
    operation_id = "adjustStock",
    tag = "merchant",
    security(("buyer" = [], "role" = [])),
    params(("id" = i64, Path, minimum = 1)),
    request_body = AdjustStockRequest,
    responses(
        (status = 200, body = Success<StockResponse>, description = "The stock after the change"),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`"),
        (status = 409, body = Failure, description = "`SOLD_OUT`, `VERSION_CHANGED`"),
        (status = 422, body = Failure, description = "`NOTHING_TO_CHANGE`, `INVALID_STOCK`")
    )
)]
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

/// Changes name, brand or price.
#[utoipa::path(
    patch,
    path = "/api-admin/v1/products/{id}",
    operation_id = "changeProduct",
    tag = "merchant",
    security(("buyer" = [], "role" = [])),
    params(("id" = i64, Path, minimum = 1)),
    request_body = ChangeProductRequest,
    responses(
        (status = 200, body = Success<ChangedProductResponse>, description = "The product after the change"),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`"),
        (status = 422, body = Failure, description = "`NOTHING_TO_CHANGE`, `INVALID_NAME`, `INVALID_BRAND`, `INVALID_PRICE`")
    )
)]
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
