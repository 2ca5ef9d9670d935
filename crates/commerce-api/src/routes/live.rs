//! `/api/v1/live`: watched products, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::envelope::Failure;
use crate::App;
use crate::catalog::StockState;
use crate::domain::InvalidInput;
use crate::domain::request::parse_ids;
use crate::error::ApiError;
use crate::live::{LiveProduct, Watch};

/// The name of the event that tells a product's state.
const PRODUCT: &str = "product";
/// Proxies that gather answers would keep events back.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LiveQuery {
    /// Ids of products, separated by commas.
    #[param(pattern = "^[0-9]+(,[0-9]+)*$")]
    ids: String,
}

/// What may have changed of a product, with the names and meanings of its page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LiveResponse {
    product_id: i64,
    like_count: Option<i64>,
    sales_count: Option<i64>,
    view_count: Option<i64>,
    stale: bool,
    sold_out: bool,
}

impl LiveResponse {
    fn new(product: &LiveProduct) -> Self {
        let counts = product.counts.map(|shown| shown.counts);
        Self {
            product_id: product.product_id,
            like_count: counts.map(|counts| counts.like_count),
            sales_count: counts.map(|counts| counts.sales_count),
            view_count: counts.map(|counts| counts.view_count),
            stale: product.counts.is_some_and(|shown| shown.is_stale),
            sold_out: product.stock.sold_out,
        }
    }
}

/// Watches products. Each event `product` tells the state of one: first of each, then whenever it changes. Records no
/// view. Ids of products that do not exist are left out.
#[utoipa::path(
    get,
    path = "/api/v1/live",
    operation_id = "watchProducts",
    tag = "products",
    params(LiveQuery),
    responses(
        (
            status = 200,
            body = LiveResponse,
            content_type = "text/event-stream",
            description = "Events that do not end; the schema is that of the data of an event `product`"
        ),
        (status = 400, body = Failure, description = "`INVALID_QUERY`, `INVALID_ID`"),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`: none of them exists"),
        (status = 422, body = Failure, description = "`TOO_MANY_IDS`"),
        (status = 503, body = Failure, description = "`OVERLOADED`: as many watch as may")
    )
)]
pub(super) async fn watch(
    State(app): State<Arc<App>>,
    query: Result<Query<LiveQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|_| InvalidInput::Query)?;
    let ids: Vec<i64> = parse_ids(&query.ids, app.settings.live_ids_max)?;
    let place = app.live.take_place()?;
    let (cards, counts) = tokio::join!(app.catalog.list_products(&ids), app.counts.read(&ids));
    let products: Vec<LiveProduct> = cards?
        .iter()
        .map(|card| LiveProduct {
            product_id: card.product_id,
            stock: StockState { version: card.stock_version, sold_out: card.sold_out },
            counts: counts.get(&card.product_id).copied(),
        })
        .collect();
    if products.is_empty() {
        return Err(ApiError::NoProduct { product_ids: ids });
    }
    let watch = app.live.watch(place, products)?;
    let retry = spread(app.settings.retry_after, watch.number);
    let heartbeat = KeepAlive::new().interval(app.settings.live_heartbeat);
    Ok(([UNBUFFERED], Sse::new(events(watch, retry)).keep_alive(heartbeat)).into_response())
}

/// When a client is to come again whose stream has ended: not all of them at once after a restart.
fn spread(shortest: Duration, number: u64) -> Duration {
    let thousandths = u32::try_from(number % 1_000).unwrap_or_default();
    shortest + shortest * thousandths / 1_000
}

fn events(watch: Watch, retry: Duration) -> impl Stream<Item = Result<Event, Infallible>> {
    let first = stream::once(std::future::ready(Event::default().retry(retry)));
    let states = stream::unfold(watch, async |mut watch| Some((watch.next().await?, watch)));
    first.chain(states.map(|product| event(&product))).map(Ok)
}

fn event(product: &LiveProduct) -> Event {
    let data = LiveResponse::new(product);
    Event::default().event(PRODUCT).json_data(data).expect("numbers and names of ours are JSON")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::spread;

    #[test]
    fn clients_come_again_one_after_the_other() {
        let second = Duration::from_secs(1);
        assert_eq!(spread(second, 0), second);
        assert_eq!(spread(second, 1_500), Duration::from_millis(1_500));
        assert!(spread(second, u64::MAX) < second * 2);
    }
}
