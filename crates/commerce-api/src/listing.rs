//! Which products a list shows, in which order.
//!
//! Products live in the shop's database and counts in the streamer's, which may be another one, so a list by counts is
//! put together from both: first the products whose count is above zero, the highest first, then all others, the newest
//! first. Every part of it is bounded:
//! - without a filter, the counted products are read down to the end of the deepest page ([`crate::count_orders`]), and
//!   what is missing to a full page comes from the shop, without those;
//! - with a filter, the shop names at most `api.filtered_products_max` products that match, and the streamer's database
//!   sorts exactly those. A filter that matches more is refused: half of its products in order would be a lie.
//!
//! When the counts cannot be had in time, the list is the newest first and says so.

use std::collections::HashSet;

use crate::App;
use crate::counts::in_time;
use crate::domain::filter::Filter;
use crate::domain::page::{Page, Sort};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::catalog::{Matching, ShopOrder, list_latest_ids, list_matching_ids};
use crate::store::counts::{CountOrder, list_most_counted_of};

/// What a list goes without when counting does not answer.
const WHAT: &str = "the order of counts";

/// A slice of a list.
pub(crate) struct Listed {
    /// One more than the page holds when there is a next page.
    pub(crate) ids: Vec<i64>,
    /// The order in which they are.
    pub(crate) sort: Sort,
}

/// What a sort is made of.
enum Order {
    Shop(ShopOrder),
    Counts(CountOrder),
}

const fn order(sort: Sort) -> Order {
    match sort {
        Sort::Latest => Order::Shop(ShopOrder::Latest),
        Sort::PriceAsc => Order::Shop(ShopOrder::PriceAsc),
        Sort::PriceDesc => Order::Shop(ShopOrder::PriceDesc),
        Sort::LikesDesc => Order::Counts(CountOrder::Likes),
        Sort::SalesDesc => Order::Counts(CountOrder::Sales),
        Sort::ViewsDesc => Order::Counts(CountOrder::Views),
    }
}

/// The ids of a page.
///
/// # Errors
/// [`ApiError::FilterTooWide`], and when the shop's database does not answer.
pub(crate) async fn list_page(
    app: &App,
    filter: &Filter,
    sort: Sort,
    page: Page,
) -> Result<Listed, ApiError> {
    let counted = match order(sort) {
        Order::Shop(order) => {
            let ids = list_by_shop(app, filter, order, page.size + 1, page.offset()).await?;
            return Ok(Listed { ids, sort });
        }
        Order::Counts(order) if filter.is_empty() => list_all_by_counts(app, order, page).await?,
        Order::Counts(order) => list_filtered_by_counts(app, filter, order, page).await?,
    };
    match counted {
        Some(ids) => Ok(Listed { ids, sort }),
        None => {
            let ids = list_by_shop(app, filter, ShopOrder::Latest, page.size + 1, page.offset()).await?;
            Ok(Listed { ids, sort: Sort::Latest })
        }
    }
}

async fn list_by_shop(
    app: &App,
    filter: &Filter,
    order: ShopOrder,
    count: usize,
    skipped: usize,
) -> Result<Vec<i64>, ApiError> {
    let matching = Matching {
        brand: filter.brand.as_deref(),
        pattern: filter.pattern.as_deref(),
        searched_max: app.settings.searched_products_max,
    };
    let mut session = Session::open(&app.shop.pool).await?;
    let ids = list_matching_ids(&mut session, matching, order, count, skipped).await?;
    session.release();
    Ok(ids)
}

/// `None` when the counts cannot be had.
async fn list_all_by_counts(app: &App, order: CountOrder, page: Page) -> Result<Option<Vec<i64>>, ApiError> {
    let wait = app.settings.counts_wait;
    let Some(counted) = in_time(wait, WHAT, app.count_orders.read(order)).await else { return Ok(None) };
    let wanted = page.size + 1;
    let mut ids: Vec<i64> = counted.iter().skip(page.offset()).take(wanted).copied().collect();
    if ids.len() < wanted {
        let skipped = page.offset().saturating_sub(counted.len());
        let mut session = Session::open(&app.shop.pool).await?;
        let others = list_latest_ids(&mut session, &counted, wanted - ids.len(), skipped).await?;
        session.release();
        ids.extend(others);
    }
    Ok(Some(ids))
}

/// `None` when the counts cannot be had.
async fn list_filtered_by_counts(
    app: &App,
    filter: &Filter,
    order: CountOrder,
    page: Page,
) -> Result<Option<Vec<i64>>, ApiError> {
    let products_max = app.settings.filtered_products_max;
    let matching = list_by_shop(app, filter, ShopOrder::Latest, products_max + 1, 0).await?;
    if matching.len() > products_max {
        return Err(ApiError::FilterTooWide { products_max });
    }
    let read = async {
        let mut session = Session::open(&app.metrics_pool).await?;
        let counted = list_most_counted_of(&mut session, order, &matching).await?;
        session.release();
        Ok(counted)
    };
    let wait = app.settings.counts_wait;
    let Some(counted) = in_time(wait, WHAT, read).await else { return Ok(None) };
    let first: HashSet<i64> = counted.iter().copied().collect();
    let others = matching.into_iter().filter(|id| !first.contains(id));
    Ok(Some(counted.iter().copied().chain(others).skip(page.offset()).take(page.size + 1).collect()))
}
