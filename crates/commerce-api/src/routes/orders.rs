//! `/api/v1/orders`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use commerce_events::json::objects;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::envelope::{Failure, Success, success};
use super::extract::{Body, Buyer, IdempotencyKey, PathId, Slice, SliceQuery};
use super::products::PageResponse;
use crate::App;
use crate::commands::cancel_order::cancel_order;
use crate::commands::place_order::{PlaceOrder, Placed};
use crate::domain::Line;
use crate::domain::order::{Wanted, merge_lines};
use crate::domain::page::Page;
use crate::error::ApiError;
use crate::store::Session;
use crate::store::orders::{OrderRow, find_order, list_lines, list_orders};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceOrderRequest {
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1)]
    items: Vec<ItemRequest>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ItemRequest {
    #[schema(minimum = 1)]
    product_id: i64,
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: i64,
}

/// An order as it was placed. It holds nothing that changes later, so a repeated request gets the same answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PlacedResponse {
    order_id: i64,
    total_amount: i64,
    ordered_at: DateTime<Utc>,
    items: Vec<LineResponse>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LineResponse {
    product_id: i64,
    quantity: i64,
    unit_price: i64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OrderResponse {
    order_id: i64,
    status: String,
    total_amount: i64,
    ordered_at: DateTime<Utc>,
    /// Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Vec<LineResponse>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CancelledResponse {
    order_id: i64,
    status: &'static str,
    /// Whether this request cancelled it.
    changed: bool,
}

impl From<&Line> for LineResponse {
    fn from(line: &Line) -> Self {
        Self { product_id: line.product_id, quantity: line.quantity, unit_price: line.unit_price }
    }
}

impl OrderResponse {
    fn new(row: OrderRow, lines: Option<&[Line]>) -> Self {
        Self {
            order_id: row.id,
            status: row.status,
            total_amount: row.total_amount,
            ordered_at: row.ordered_at,
            items: lines.map(|lines| lines.iter().map(Into::into).collect()),
        }
    }
}

impl From<Placed> for PlacedResponse {
    fn from(placed: Placed) -> Self {
        Self {
            order_id: placed.order_id,
            total_amount: placed.total_amount,
            ordered_at: placed.ordered_at,
            items: placed.lines.iter().map(Into::into).collect(),
        }
    }
}

/// Places an order: all its lines or none. A repeated request with the same key gets the first answer.
#[utoipa::path(
    post,
    path = "/api/v1/orders",
    operation_id = "placeOrder",
    tag = "orders",
    security(("buyer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Visible ASCII; belongs to the buyer")),
    request_body = PlaceOrderRequest,
    responses(
        (status = 201, body = Success<PlacedResponse>, description = "The order as it was placed"),
        (status = 400, body = Failure, description = "`INVALID_BODY`, `INVALID_IDEMPOTENCY_KEY`"),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`"),
        (status = 409, body = Failure, description = "`SOLD_OUT`, `IDEMPOTENCY_KEY_REUSED`"),
        (status = 422, body = Failure, description = "`NO_LINES`, `TOO_MANY_LINES`, `INVALID_QUANTITY`, `TOTAL_TOO_LARGE`")
    )
)]
pub(super) async fn place(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    IdempotencyKey(key): IdempotencyKey,
    Body(request): Body<PlaceOrderRequest>,
) -> Result<Response, ApiError> {
    let items: Vec<Wanted> = request
        .items
        .iter()
        .map(|item| Wanted { product_id: item.product_id, quantity: item.quantity })
        .collect();
    let wanted = merge_lines(&items, app.settings.order_limits())?;
    let placed = app.orders.call(PlaceOrder { context, wanted, key }).await?;
    Ok(success(StatusCode::CREATED, PlacedResponse::from(placed)))
}

/// Shows one of the buyer's orders.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}",
    operation_id = "showOrder",
    tag = "orders",
    security(("buyer" = [])),
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, body = Success<OrderResponse>, description = "The order with its lines"),
        (status = 404, body = Failure, description = "`ORDER_NOT_FOUND`")
    )
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    PathId(order_id): PathId,
) -> Result<Response, ApiError> {
    let (order, lines) = load_order(&app, context.user_id, order_id).await?;
    Ok(success(StatusCode::OK, OrderResponse::new(order, Some(&lines))))
}

/// An order of this buyer with its lines.
pub(crate) async fn load_order(
    app: &App,
    user_id: i64,
    order_id: i64,
) -> Result<(OrderRow, Vec<Line>), ApiError> {
    let mut session = Session::open(&app.shop.pool).await?;
    let order = find_order(&mut session, user_id, order_id).await?;
    let lines = match &order {
        Some(order) => list_lines(&mut session, order.id).await?,
        None => Vec::new(),
    };
    session.release();
    Ok((order.ok_or(ApiError::NoOrder)?, lines))
}

/// Lists the buyer's orders, the newest first, without their lines.
#[utoipa::path(
    get,
    path = "/api/v1/orders",
    operation_id = "listOrders",
    tag = "orders",
    security(("buyer" = [])),
    params(SliceQuery),
    responses(
        (status = 200, body = Success<PageResponse<OrderResponse>>, description = "A page of orders"),
        (status = 422, body = Failure, description = "`INVALID_PAGE`")
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    Slice(page): Slice,
) -> Result<Response, ApiError> {
    let (orders, has_next) = load_orders(&app, context.user_id, page).await?;
    let items = orders.into_iter().map(|order| OrderResponse::new(order, None)).collect();
    Ok(success(StatusCode::OK, PageResponse { items, page: page.number, size: page.size, has_next }))
}

/// A page of this buyer's orders, and whether there are more.
pub(crate) async fn load_orders(
    app: &App,
    user_id: i64,
    page: Page,
) -> Result<(Vec<OrderRow>, bool), ApiError> {
    let mut session = Session::open(&app.shop.pool).await?;
    let mut orders = list_orders(&mut session, user_id, page).await?;
    session.release();
    let has_next = orders.len() > page.size;
    orders.truncate(page.size);
    Ok((orders, has_next))
}

/// Cancels one of the buyer's orders; again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/cancel",
    operation_id = "cancelOrder",
    tag = "orders",
    security(("buyer" = [])),
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, body = Success<CancelledResponse>, description = "Cancelled now"),
        (status = 404, body = Failure, description = "`ORDER_NOT_FOUND`")
    )
)]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Buyer(context): Buyer,
    PathId(order_id): PathId,
) -> Result<Response, ApiError> {
    let changed = cancel_order(&app.shop, &context, order_id).await?;
    Ok(success(StatusCode::OK, CancelledResponse { order_id, status: "cancelled", changed }))
}
