//! `/orders` and `/orders/{id}`: the buyer's own.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::done::Done;
use super::frame::{Frame, Section, see_other, send};
use super::products::{Refused, new_key, show_refused};
use super::shopper::Shopper;
use super::submission::{NoFields, Submission};
use super::texts::{Texts, fill};
use super::view::{Pager, grouped, machine_time, seoul_time, won};
use crate::App;
use crate::commands::cancel_order::cancel_order;
use crate::commands::place_order::PlaceOrder;
use crate::domain::order::{Wanted, merge_lines};
use crate::domain::request::{check_idempotency_key, parse_id};
use crate::domain::{InvalidInput, Line};
use crate::error::ApiError;
use crate::language::Language;
use crate::routes::envelope::wait;
use crate::routes::extract::{Parameters, PathId, Slice};
use crate::routes::orders::{load_order, load_orders};
use crate::store::orders::OrderRow;

#[derive(Template)]
#[template(path = "orders.html")]
struct OrdersPage<'a> {
    frame: Frame<'a>,
    orders: Vec<OrderView>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "order.html")]
struct OrderPage<'a> {
    frame: Frame<'a>,
    order: OrderView,
    lines: Vec<LineView>,
    done: Option<&'static str>,
}

struct OrderView {
    id: i64,
    title: String,
    time: String,
    machine_time: String,
    status: &'static str,
    is_cancelled: bool,
    total: String,
}

struct LineView {
    product_id: i64,
    name: String,
    unit_price: String,
    quantity: String,
    amount: String,
}

#[derive(Deserialize)]
pub(super) struct OrderForm {
    product_id: String,
    quantity: String,
    /// Made with the form, so that it orders once however often it is sent.
    key: String,
}

impl OrderView {
    fn new(order: &OrderRow, t: &'static Texts, language: Language) -> Self {
        let is_cancelled = order.status == "cancelled";
        Self {
            id: order.id,
            title: fill(t.order_number, order.id),
            time: seoul_time(order.ordered_at, language),
            machine_time: machine_time(order.ordered_at),
            status: if is_cancelled { t.status_cancelled } else { t.status_completed },
            is_cancelled,
            total: won(order.total_amount),
        }
    }
}

/// `GET /orders`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    mut shopper: Shopper,
    Slice(page): Slice,
) -> Result<Response, ApiError> {
    let context = shopper.buyer(&app)?;
    let t = shopper.texts();
    let (orders, has_next) = load_orders(&app, context.user_id, page).await?;
    let view = |order: &OrderRow| OrderView::new(order, t, shopper.locale.language);
    let page = OrdersPage {
        frame: shopper.frame(&app, Section::Orders, t.my_orders.to_owned())?,
        orders: orders.iter().map(view).collect(),
        pager: Pager::new(t, &shopper.here, page, has_next),
    };
    send(StatusCode::OK, shopper.locale, shopper.keeping(), &page)
}

/// `GET /orders/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    mut shopper: Shopper,
    PathId(order_id): PathId,
    Parameters(done): Parameters<Done>,
) -> Result<Response, ApiError> {
    let context = shopper.buyer(&app)?;
    let t = shopper.texts();
    let (order, lines) = load_order(&app, context.user_id, order_id).await?;
    let order = OrderView::new(&order, t, shopper.locale.language);
    let page = OrderPage {
        frame: shopper.frame(&app, Section::Orders, order.title.clone())?,
        order,
        lines: line_views(&app, t, &lines).await,
        done: done.text(t),
    };
    send(StatusCode::OK, shopper.locale, shopper.keeping(), &page)
}

/// `POST /orders`.
pub(super) async fn place(
    State(app): State<Arc<App>>,
    mut shopper: Shopper,
    Submission(form): Submission<OrderForm>,
) -> Result<Response, ApiError> {
    let context = shopper.buyer(&app)?;
    let product_id = parse_id(&form.product_id)?;
    let key = check_idempotency_key(form.key.as_bytes(), app.settings.idempotency_key_bytes_max)?;
    let place = async {
        let quantity = form.quantity.trim().parse().map_err(|_| InvalidInput::Quantity)?;
        let wanted = merge_lines(&[Wanted { product_id, quantity }], app.settings.order_limits())?;
        app.orders.call(PlaceOrder { context, wanted, key: Some(key.to_owned()) }).await
    };
    match place.await {
        Ok(placed) => see_other(&format!("/orders/{}?done={}", placed.order_id, Done::ORDERED)),
        Err(error) => {
            let refused = refused(&app, shopper.texts(), &error, &form).ok_or(error)?;
            show_refused(&app, shopper, product_id, refused).await
        }
    }
}

/// `POST /orders/{id}/cancel`.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    mut shopper: Shopper,
    PathId(order_id): PathId,
    Submission(NoFields {}): Submission<NoFields>,
) -> Result<Response, ApiError> {
    let context = shopper.buyer(&app)?;
    cancel_order(&app.shop, &context, order_id).await?;
    see_other(&format!("/orders/{order_id}?done={}", Done::CANCELLED))
}

/// What the buyer is told about an order that was not placed, where its form can be sent again. A form whose order may have been
/// placed keeps its key, so that it cannot order twice.
fn refused(app: &App, t: &'static Texts, error: &ApiError, form: &OrderForm) -> Option<Refused> {
    let (why, key) = match error {
        ApiError::SoldOut { .. } => (t.order_sold_out.to_owned(), new_key()),
        ApiError::Invalid(InvalidInput::Quantity) => {
            let quantity_max = grouped(app.settings.order_quantity_max);
            (fill(t.order_quantity, quantity_max), new_key())
        }
        ApiError::IdempotencyKeyReused => (t.order_key_reused.to_owned(), new_key()),
        ApiError::Invalid(_) => (t.order_failed.to_owned(), new_key()),
        ApiError::Away(_) => (t.order_unknown.to_owned(), form.key.clone()),
        _ => return None,
    };
    let wait = wait(error, app.settings.retry_after);
    Some(Refused { status: error.code().status(), wait, why, key, quantity: form.quantity.clone() })
}

/// A product that has no card any more is named by its id.
async fn line_views(app: &App, t: &'static Texts, lines: &[Line]) -> Vec<LineView> {
    let ids: Vec<i64> = lines.iter().map(|line| line.product_id).collect();
    let cards = app.catalog.list_products(&ids).await.unwrap_or_default();
    let names: HashMap<i64, String> = cards.into_iter().map(|card| (card.product_id, card.name)).collect();
    let view = |line: &Line| LineView {
        product_id: line.product_id,
        name: names.get(&line.product_id).cloned().unwrap_or_else(|| fill(t.gone_product, line.product_id)),
        unit_price: won(line.unit_price),
        quantity: grouped(line.quantity),
        amount: won(line.unit_price.saturating_mul(line.quantity)),
    };
    lines.iter().map(view).collect()
}
