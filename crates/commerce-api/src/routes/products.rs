//! `/api/v1/products`: what buyers see.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use product_cache::Card;
use serde::Serialize;

use super::envelope::success;
use super::extract::{Listing, PathId, Visitor};
use crate::App;
use crate::domain::page::{Page, Sort};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::catalog::{list_cheapest_ids, list_latest_ids};
use crate::store::counts::{Counts, list_most_liked};
use crate::views::View;

/// Whether the page's view is committed: `true`, `false` (and never will be) or `unknown`.
const VIEW_RECORDED: HeaderName = HeaderName::from_static("view-recorded");

/// A product as buyers see it. Counts are null when they cannot be had now.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProductResponse {
    product_id: i64,
    code: String,
    name: String,
    price: i64,
    sold_out: bool,
    like_count: Option<i64>,
    sales_count: Option<i64>,
    view_count: Option<i64>,
}

impl ProductResponse {
    fn new(card: Card, counts: Option<&Counts>) -> Self {
        Self {
            product_id: card.product_id,
            code: card.code,
            name: card.name,
            price: card.price,
            sold_out: card.sold_out,
            like_count: counts.map(|counts| counts.like_count),
            sales_count: counts.map(|counts| counts.sales_count),
            view_count: counts.map(|counts| counts.view_count),
        }
    }
}

/// A page of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageResponse<T> {
    pub(super) items: Vec<T>,
    pub(super) page: usize,
    pub(super) size: usize,
    pub(super) has_next: bool,
}

#[derive(Serialize)]
struct ProductPageResponse {
    #[serde(flatten)]
    page: PageResponse<ProductResponse>,
    /// The order of the items; `latest` when the likes cannot be had.
    sort: Sort,
}

/// `GET /api/v1/products/{id}`: shows a product and records the view. The page never waits long for either.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    PathId(product_id): PathId,
) -> Result<Response, ApiError> {
    let not_found = || ApiError::NoProduct { product_ids: vec![product_id] };
    let card = app.catalog.list_products(&[product_id]).await?.pop().ok_or_else(not_found)?;
    let view = View {
        product_id,
        user_id: visitor.user_id,
        viewed_at: app.shop.now(),
        traceparent: visitor.traceparent,
    };
    let ids = [product_id];
    let (counts, recorded) = tokio::join!(app.counts.read(&ids), app.views.record(view));
    let mut response = success(StatusCode::OK, ProductResponse::new(card, counts.get(&product_id)));
    response.headers_mut().insert(VIEW_RECORDED, HeaderValue::from_static(recorded.as_str()));
    Ok(response)
}

/// `GET /api/v1/products`.
pub(super) async fn list(State(app): State<Arc<App>>, listing: Listing) -> Result<Response, ApiError> {
    let (ids, sort) = match listing.sort {
        Sort::Latest => (latest(&app, listing.page).await?, Sort::Latest),
        Sort::PriceAsc => {
            let mut session = Session::open(&app.shop.pool).await?;
            let ids = list_cheapest_ids(&mut session, listing.page).await?;
            session.release();
            (ids, Sort::PriceAsc)
        }
        Sort::LikesDesc => match most_liked(&app, listing.page).await? {
            Some(ids) => (ids, Sort::LikesDesc),
            None => (latest(&app, listing.page).await?, Sort::Latest),
        },
    };
    let page = product_page(&app, ids, listing.page).await?;
    Ok(success(StatusCode::OK, ProductPageResponse { page, sort }))
}

/// The page of `ids`, which holds one more than the page when there is a next one.
pub(super) async fn product_page(
    app: &App,
    mut ids: Vec<i64>,
    page: Page,
) -> Result<PageResponse<ProductResponse>, ApiError> {
    let has_next = ids.len() > page.size;
    ids.truncate(page.size);
    let (cards, counts) = tokio::join!(app.catalog.list_products(&ids), app.counts.read(&ids));
    let items = with_counts(cards?, &counts);
    Ok(PageResponse { items, page: page.number, size: page.size, has_next })
}

fn with_counts(cards: Vec<Card>, counts: &HashMap<i64, Counts>) -> Vec<ProductResponse> {
    cards
        .into_iter()
        .map(|card| {
            let counts = counts.get(&card.product_id);
            ProductResponse::new(card, counts)
        })
        .collect()
}

async fn latest(app: &App, page: Page) -> Result<Vec<i64>, ApiError> {
    let mut session = Session::open(&app.shop.pool).await?;
    let ids = list_latest_ids(&mut session, &[], page.size + 1, page.offset()).await?;
    session.release();
    Ok(ids)
}

/// The liked products, then the others as in `latest`; `None` when the counts cannot be had. Both lists may live in
/// different databases; pages are bounded in depth, so what the second must leave out is bounded too.
async fn most_liked(app: &App, page: Page) -> Result<Option<Vec<i64>>, ApiError> {
    let wanted = page.size + 1;
    let liked = match read_most_liked(app, page.offset() + wanted).await {
        Ok(liked) => liked,
        Err(error) => {
            tracing::debug!(%error, "products are listed without the order of likes");
            return Ok(None);
        }
    };
    let mut ids: Vec<i64> = liked.iter().skip(page.offset()).copied().collect();
    if ids.len() < wanted {
        let skipped = page.offset().saturating_sub(liked.len());
        let mut session = Session::open(&app.shop.pool).await?;
        let others = list_latest_ids(&mut session, &liked, wanted - ids.len(), skipped).await?;
        session.release();
        ids.extend(others);
    }
    Ok(Some(ids))
}

async fn read_most_liked(app: &App, count: usize) -> Result<Vec<i64>, ApiError> {
    let mut session = Session::open(&app.metrics_pool).await?;
    let liked = list_most_liked(&mut session, count).await?;
    session.release();
    Ok(liked)
}
