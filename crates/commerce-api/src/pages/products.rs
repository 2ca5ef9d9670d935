//! `/` and `/products/{id}`: the shop's window.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use uuid::Uuid;

use super::done::Done;
use super::frame::{Frame, Section, see_other, send};
use super::shopper::Shopper;
use super::submission::Submission;
use super::texts::{Texts, fill};
use super::view::{Choice, Pager, ProductView};
use crate::App;
use crate::commands::like_product::LikeProduct;
use crate::domain::page::Sort;
use crate::error::ApiError;
use crate::listing::{Listed, list_page};
use crate::routes::extract::{Listing, ListingQuery, Parameters, PathId};
use crate::routes::products::{ProductDetailResponse, product_page, show_product};
use crate::store::catalog::list_brands;
use crate::store::likes::is_liked;
use crate::store::{Session, StoreError};

#[derive(Template)]
#[template(path = "products.html")]
struct ProductsPage<'a> {
    frame: Frame<'a>,
    heading: String,
    query: String,
    brands: Vec<Choice>,
    sorts: Vec<Choice>,
    is_filtered: bool,
    /// The list should be by counts, and is not.
    falls_back: bool,
    products: Vec<ProductView>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "product.html")]
struct ProductPage<'a> {
    frame: Frame<'a>,
    product: ProductView,
    rank: Option<String>,
    done: Option<&'static str>,
    refusal: Option<String>,
    is_liked: bool,
    key: String,
    quantity: String,
    quantity_max: i64,
    more: Option<Link>,
}

struct Link {
    href: String,
    text: String,
}

#[derive(Deserialize)]
pub(super) struct LikeForm {
    liked: bool,
}

/// The order form as it is shown again, and why.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    /// When it may be sent again, if that is said.
    pub(super) wait: Option<HeaderValue>,
    pub(super) why: String,
    pub(super) key: String,
    pub(super) quantity: String,
}

/// A key for the next order: whoever sends the form twice with it orders once.
pub(super) fn new_key() -> String {
    Uuid::now_v7().to_string()
}

/// `GET /`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    shopper: Shopper,
    Parameters(query): Parameters<ListingQuery>,
) -> Result<Response, ApiError> {
    let query = query.without_blanks();
    let t = shopper.texts();
    let (search, brand) = (query.q.clone().unwrap_or_default(), query.brand.clone());
    let listing = Listing::new(query, &app)?;
    let Listed { ids, sort } = list_page(&app, &listing.filter, listing.sort, listing.page).await?;
    let (page, brands) = tokio::join!(product_page(&app, ids, listing.page), brands(&app));
    let page = page?;
    let heading = match (&brand, search.is_empty()) {
        (_, false) => fill(t.search_results, &search),
        (Some(brand), true) => brand.clone(),
        (None, true) => t.all_products.to_owned(),
    };
    let mut frame = shopper.frame(&app, Section::Products, heading.clone())?;
    frame.search.clone_from(&search);
    let page = ProductsPage {
        frame,
        heading,
        is_filtered: brand.is_some() || !search.is_empty(),
        brands: brand_choices(brands, brand.as_deref()),
        query: search,
        sorts: sort_choices(t, listing.sort),
        falls_back: sort != listing.sort,
        pager: Pager::new(t, &shopper.here, listing.page, page.has_next),
        products: page.items.into_iter().map(Into::into).collect(),
    };
    send(StatusCode::OK, shopper.locale, shopper.keeping(), &page)
}

/// `GET /products/{id}`. What a form leads to is no view: the buyer looks at the same page still.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    shopper: Shopper,
    PathId(product_id): PathId,
    Parameters(done): Parameters<Done>,
) -> Result<Response, ApiError> {
    let done = done.text(shopper.texts());
    let visitor = done.is_none().then_some(&shopper.visitor);
    let (product, _) = show_product(&app, product_id, visitor).await?;
    page(&app, &shopper, product, done, None).await
}

/// The page of a product whose order was refused, with its form as it was filled in.
pub(super) async fn show_refused(
    app: &App,
    mut shopper: Shopper,
    product_id: i64,
    refused: Refused,
) -> Result<Response, ApiError> {
    let (product, _) = show_product(app, product_id, None).await?;
    let path = format!("/products/{product_id}");
    shopper.here = path.parse().map_err(|_| ApiError::Internal("a path is no path".into()))?;
    let wait = refused.wait.clone();
    let mut response = page(app, &shopper, product, None, Some(refused)).await?;
    response.headers_mut().extend(wait.map(|wait| (RETRY_AFTER, wait)));
    Ok(response)
}

/// `POST /products/{id}/like`.
pub(super) async fn like(
    State(app): State<Arc<App>>,
    mut shopper: Shopper,
    PathId(product_id): PathId,
    Submission(form): Submission<LikeForm>,
) -> Result<Response, ApiError> {
    let context = shopper.buyer(&app)?;
    app.likes.call(LikeProduct { context, product_id, is_liked: form.liked }).await?;
    let done = if form.liked { Done::LIKED } else { Done::UNLIKED };
    see_other(&format!("/products/{product_id}?done={done}"))
}

async fn page(
    app: &App,
    shopper: &Shopper,
    product: ProductDetailResponse,
    done: Option<&'static str>,
    refused: Option<Refused>,
) -> Result<Response, ApiError> {
    let t = shopper.texts();
    let ProductDetailResponse { product, rank } = product;
    let product = ProductView::from(product);
    let is_liked = match shopper.visitor.user_id {
        Some(user_id) => likes(app, user_id, product.id).await,
        None => false,
    };
    let status = refused.as_ref().map_or(StatusCode::OK, |refused| refused.status);
    let (refusal, key, quantity) = match refused {
        Some(refused) => (Some(refused.why), refused.key, refused.quantity),
        None => (None, new_key(), "1".to_owned()),
    };
    let page = ProductPage {
        frame: shopper.frame(app, Section::Products, product.name.clone())?,
        rank: rank.map(|rank| fill(t.rank_today, rank)),
        done,
        refusal,
        is_liked,
        key,
        quantity,
        quantity_max: app.settings.order_quantity_max,
        more: product.brand.as_deref().map(|brand| more_of(t, brand)),
        product,
    };
    send(status, shopper.locale, shopper.keeping(), &page)
}

fn more_of(t: &Texts, brand: &str) -> Link {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("brand", brand).finish();
    Link { href: format!("/?{query}"), text: fill(t.more_of_brand, brand) }
}

/// Whether the buyer likes the product; false when it cannot be told now, as a page is never refused for it: to like once more
/// changes nothing.
async fn likes(app: &App, user_id: i64, product_id: i64) -> bool {
    let read = async {
        let mut session = Session::open(&app.shop.pool).await?;
        let is_liked = is_liked(&mut session, user_id, product_id).await?;
        session.release();
        Ok::<_, StoreError>(is_liked)
    };
    read.await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a page is served without the buyer's like");
        false
    })
}

/// Brands to choose from; none when they cannot be told now.
async fn brands(app: &App) -> Vec<String> {
    let read = async {
        let mut session = Session::open(&app.shop.pool).await?;
        let brands = list_brands(&mut session, app.settings.listed_brands_max).await?;
        session.release();
        Ok::<_, StoreError>(brands)
    };
    read.await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a list is served without brands to choose from");
        Vec::new()
    })
}

/// The chosen brand is among them, also when there are too many to list.
fn brand_choices(mut brands: Vec<String>, chosen: Option<&str>) -> Vec<Choice> {
    if let Some(chosen) = chosen
        && !brands.iter().any(|brand| brand == chosen)
    {
        brands.insert(0, chosen.to_owned());
    }
    let choice = |brand: String| Choice {
        is_chosen: chosen == Some(brand.as_str()),
        text: brand.clone(),
        value: brand,
    };
    brands.into_iter().map(choice).collect()
}

fn sort_choices(t: &Texts, chosen: Sort) -> Vec<Choice> {
    let text = |sort| match sort {
        Sort::Latest => t.sort_latest,
        Sort::PriceAsc => t.sort_price_asc,
        Sort::PriceDesc => t.sort_price_desc,
        Sort::LikesDesc => t.sort_likes_desc,
        Sort::SalesDesc => t.sort_sales_desc,
        Sort::ViewsDesc => t.sort_views_desc,
    };
    let choice = |sort: Sort| Choice {
        value: sort.as_str().to_owned(),
        text: text(sort).to_owned(),
        is_chosen: sort == chosen,
    };
    Sort::ALL.into_iter().map(choice).collect()
}
