//! `/api/v1/products`: what buyers see.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use product_cache::Card;
use serde::Serialize;
use utoipa::ToSchema;

use super::envelope::{Failure, Success, success};
use super::extract::{Listing, ListingQuery, PathId, Visitor};
use crate::App;
use crate::counts::ShownCounts;
use crate::domain::page::{Page, Sort};
use crate::error::ApiError;
use crate::listing::{Listed, list_page};
use crate::views::{Recorded, View};

/// Whether the page's view is committed: `true`, `false` (and never will be) or `unknown`.
const VIEW_RECORDED: HeaderName = HeaderName::from_static("view-recorded");

/// A product as buyers see it. Counts are null when none are known.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductResponse {
    pub(crate) product_id: i64,
    pub(crate) code: String,
    pub(crate) name: String,
    /// Null when no brand is named.
    pub(crate) brand: Option<String>,
    /// Minor units.
    pub(crate) price: i64,
    pub(crate) sold_out: bool,
    pub(crate) like_count: Option<i64>,
    pub(crate) sales_count: Option<i64>,
    pub(crate) view_count: Option<i64>,
    /// Whether the counts are the last that are known, as newer ones cannot be had now.
    pub(crate) stale: bool,
}

impl ProductResponse {
    fn new(card: Card, shown: Option<&ShownCounts>) -> Self {
        let counts = shown.map(|shown| shown.counts);
        Self {
            product_id: card.product_id,
            code: card.code,
            name: card.name,
            brand: card.brand,
            price: card.price,
            sold_out: card.sold_out,
            like_count: counts.map(|counts| counts.like_count),
            sales_count: counts.map(|counts| counts.sales_count),
            view_count: counts.map(|counts| counts.view_count),
            stale: shown.is_some_and(|shown| shown.is_stale),
        }
    }
}

/// A product on its own page.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProductDetailResponse {
    #[serde(flatten)]
    pub(crate) product: ProductResponse,
    /// In today's daily ranking; null when the product has none, or it cannot be had now.
    pub(crate) rank: Option<usize>,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageResponse<T> {
    pub(crate) items: Vec<T>,
    /// From 0.
    pub(crate) page: usize,
    pub(crate) size: usize,
    pub(crate) has_next: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProductPageResponse {
    #[serde(flatten)]
    page: PageResponse<ProductResponse>,
    /// The order of the items; `latest` when it should be by counts, and they cannot be had.
    sort: Sort,
}

/// Shows a product and records the view. The page never waits long for counts, rank or record.
#[utoipa::path(
    get,
    path = "/api/v1/products/{id}",
    operation_id = "showProduct",
    tag = "products",
    security((), ("buyer" = [])),
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, body = Success<ProductDetailResponse>, description = "The product", headers(
            ("View-Recorded" = String, description = "Whether the view is committed: true, false, unknown")
        )),
        (status = 404, body = Failure, description = "`PRODUCT_NOT_FOUND`")
    )
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    PathId(product_id): PathId,
) -> Result<Response, ApiError> {
    let (product, recorded) = show_product(&app, product_id, Some(&visitor)).await?;
    let mut response = success(StatusCode::OK, product);
    if let Some(recorded) = recorded {
        response.headers_mut().insert(VIEW_RECORDED, HeaderValue::from_static(recorded.as_str()));
    }
    Ok(response)
}

/// A product as its page shows it, and what became of the visitor's view; without a visitor none is recorded.
pub(crate) async fn show_product(
    app: &App,
    product_id: i64,
    visitor: Option<&Visitor>,
) -> Result<(ProductDetailResponse, Option<Recorded>), ApiError> {
    let not_found = || ApiError::NoProduct { product_ids: vec![product_id] };
    let card = app.catalog.list_products(&[product_id]).await?.pop().ok_or_else(not_found)?;
    let now = app.shop.now();
    let record = async {
        let Visitor { user_id, traceparent } = visitor?.clone();
        Some(app.views.record(View { product_id, user_id, viewed_at: now, traceparent }).await)
    };
    let (counts, rank, recorded) =
        tokio::join!(app.counts.read_one(product_id), app.rankings.find_rank(product_id, now), record);
    let product = ProductResponse::new(card, counts.as_ref());
    Ok((ProductDetailResponse { product, rank }, recorded))
}

/// Lists products.
#[utoipa::path(
    get,
    path = "/api/v1/products",
    operation_id = "listProducts",
    tag = "products",
    params(ListingQuery),
    responses(
        (status = 200, body = Success<ProductPageResponse>, description = "A page of products"),
        (status = 400, body = Failure, description = "`INVALID_QUERY`"),
        (status = 422, body = Failure, description = "`INVALID_PAGE`, `INVALID_BRAND`, `INVALID_SEARCH`, `FILTER_TOO_WIDE`")
    )
)]
pub(super) async fn list(State(app): State<Arc<App>>, listing: Listing) -> Result<Response, ApiError> {
    let Listed { ids, sort } = list_page(&app, &listing.filter, listing.sort, listing.page).await?;
    let page = product_page(&app, ids, listing.page).await?;
    Ok(success(StatusCode::OK, ProductPageResponse { page, sort }))
}

/// The page of `ids`, which holds one more than the page when there is a next one.
pub(crate) async fn product_page(
    app: &App,
    mut ids: Vec<i64>,
    page: Page,
) -> Result<PageResponse<ProductResponse>, ApiError> {
    let has_next = ids.len() > page.size;
    ids.truncate(page.size);
    let items = list_responses(app, &ids).await?;
    Ok(PageResponse { items, page: page.number, size: page.size, has_next })
}

/// The products that exist, in the order of `ids`.
pub(crate) async fn list_responses(app: &App, ids: &[i64]) -> Result<Vec<ProductResponse>, ApiError> {
    let (cards, counts) = tokio::join!(app.catalog.list_products(ids), app.counts.read(ids));
    Ok(with_counts(cards?, &counts))
}

fn with_counts(cards: Vec<Card>, counts: &HashMap<i64, ShownCounts>) -> Vec<ProductResponse> {
    cards
        .into_iter()
        .map(|card| {
            let counts = counts.get(&card.product_id);
            ProductResponse::new(card, counts)
        })
        .collect()
}
