//! `/api/v1/rankings`: what is in demand.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, FixedOffset, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::envelope::{Failure, Success, success};
use super::extract::{RankingQuery, RankingSlice};
use super::products::{PageResponse, ProductResponse, list_responses};
use crate::App;
use crate::domain::page::Page;
use crate::domain::ranking::{Period, Window, seoul};
use crate::error::ApiError;

/// A product at its place.
#[derive(Serialize, ToSchema)]
struct RankedResponse {
    /// From 1; the same as on the product's own page for today's daily ranking.
    rank: usize,
    score: f64,
    #[serde(flatten)]
    product: ProductResponse,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RankingResponse {
    period: Period,
    /// The first hour of the window.
    from: DateTime<FixedOffset>,
    /// The hour behind its last one.
    to: DateTime<FixedOffset>,
    calculated_at: DateTime<Utc>,
    #[serde(flatten)]
    page: PageResponse<RankedResponse>,
}

/// Lists products by demand. A product that is ranked and not in the shop leaves its place empty.
#[utoipa::path(
    get,
    path = "/api/v1/rankings",
    operation_id = "listRanking",
    tag = "products",
    params(RankingQuery),
    responses(
        (status = 200, body = Success<RankingResponse>, description = "A page of a ranking"),
        (status = 400, body = Failure, description = "`INVALID_QUERY`"),
        (status = 422, body = Failure, description = "`INVALID_DATE`, `INVALID_PAGE`")
    )
)]
pub(super) async fn list(State(app): State<Arc<App>>, slice: RankingSlice) -> Result<Response, ApiError> {
    let RankingSlice { window, page } = slice;
    let RankedPage { items, page, has_next, calculated_at } = load_ranking(&app, window, page).await?;
    let items =
        items.into_iter().map(|(rank, score, product)| RankedResponse { rank, score, product }).collect();
    let page = PageResponse { items, page: page.number, size: page.size, has_next };
    let (from, to) = (window.from.with_timezone(&seoul()), window.to.with_timezone(&seoul()));
    Ok(success(StatusCode::OK, RankingResponse { period: window.period, from, to, calculated_at, page }))
}

/// A page of a ranking.
pub(crate) struct RankedPage {
    /// Rank, score and product.
    pub(crate) items: Vec<(usize, f64, ProductResponse)>,
    pub(crate) page: Page,
    pub(crate) has_next: bool,
    pub(crate) calculated_at: DateTime<Utc>,
}

/// A page of the ranking of `window`.
pub(crate) async fn load_ranking(app: &App, window: Window, page: Page) -> Result<RankedPage, ApiError> {
    let ranking = app.rankings.read(window).await?;
    let places: Vec<_> = ranking.places.iter().skip(page.offset()).take(page.size).collect();
    let ids: Vec<i64> = places.iter().map(|place| place.product_id).collect();
    let products = list_responses(app, &ids).await?;
    let items = products
        .into_iter()
        .filter_map(|product| {
            let rank = ranking.rank(product.product_id)?;
            let score = ranking.places.get(rank - 1)?.score;
            Some((rank, score, product))
        })
        .collect();
    let has_next = ranking.places.len() > page.offset() + page.size;
    Ok(RankedPage { items, page, has_next, calculated_at: ranking.calculated_at })
}
