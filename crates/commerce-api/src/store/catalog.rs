//! Reads of products for buyers.

use product_cache::Card;
use sqlx::PgConnection;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::StoreError;
use crate::domain::page::Page;

/// Orders that the shop's own database knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShopOrder {
    /// The newest first.
    Latest,
    /// The cheapest first, then the oldest.
    PriceAsc,
    /// The dearest first, then the newest.
    PriceDesc,
}

/// Which products a list holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matching<'a> {
    /// Exactly this brand.
    pub(crate) brand: Option<&'a str>,
    /// Names that match this pattern of `ilike`.
    pub(crate) pattern: Option<&'a str>,
    /// Products whose names are compared with the pattern, from the beginning of the list.
    pub(crate) searched_max: usize,
}

/// The cards of the products that exist, in no particular order.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_cards(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Card>, StoreError> {
    let rows = sqlx::query(
        "select p.id, p.code, p.name, p.brand, p.price, s.quantity = 0 as sold_out, s.version
           from shop.product p join shop.stock s on s.product_id = p.id
          where p.id = any($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(card).collect()
}

/// The newest products first, without those in `excluded`.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_latest_ids(
    connection: &mut PgConnection,
    excluded: &[i64],
    count: usize,
    skipped: usize,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar(
        "select id from shop.product where id <> all($1) order by id desc limit $2 offset $3",
    )
    .bind(excluded)
    .bind(limit(count))
    .bind(limit(skipped))
    .fetch_all(connection)
    .await?)
}

/// The products that match, in `order`, without the first `skipped`.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_matching_ids(
    connection: &mut PgConnection,
    matching: Matching<'_>,
    order: ShopOrder,
    count: usize,
    skipped: usize,
) -> Result<Vec<i64>, StoreError> {
    let searched_max = matching.pattern.map_or(i64::MAX, |_| limit(matching.searched_max));
    Ok(sqlx::query_scalar(matching_sql(order, matching.brand.is_some()))
        .bind(matching.brand)
        .bind(searched_max)
        .bind(matching.pattern)
        .bind(limit(count))
        .bind(limit(skipped))
        .fetch_all(connection)
        .await?)
}

/// One statement for each order, with and without a brand, so that each walks the index that is made for it. The inner
/// limit bounds how many names are compared, the outer one ends the walk when the page is full.
macro_rules! matching_sql {
    ($brand:literal, $order:literal) => {
        concat!(
            "select id from (select id, name, price from shop.product where ",
            $brand,
            " order by ",
            $order,
            " limit $2) as listed where $3::text is null or name ilike $3 order by ",
            $order,
            " limit $4 offset $5"
        )
    };
}

const fn matching_sql(order: ShopOrder, branded: bool) -> &'static str {
    match (order, branded) {
        (ShopOrder::Latest, true) => matching_sql!("brand = $1", "id desc"),
        (ShopOrder::Latest, false) => matching_sql!("$1::text is null", "id desc"),
        (ShopOrder::PriceAsc, true) => matching_sql!("brand = $1", "price, id"),
        (ShopOrder::PriceAsc, false) => matching_sql!("$1::text is null", "price, id"),
        (ShopOrder::PriceDesc, true) => matching_sql!("brand = $1", "price desc, id desc"),
        (ShopOrder::PriceDesc, false) => matching_sql!("$1::text is null", "price desc, id desc"),
    }
}

/// A bound as SQL wants it. Pages are bounded far below the maximum.
pub(crate) fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Rows to skip for `page`.
pub(crate) fn offset(page: Page) -> i64 {
    limit(page.offset())
}

fn card(row: &PgRow) -> Result<Card, StoreError> {
    Ok(Card {
        product_id: row.try_get("id")?,
        code: row.try_get("code")?,
        name: row.try_get("name")?,
        brand: row.try_get("brand")?,
        price: row.try_get("price")?,
        sold_out: row.try_get("sold_out")?,
        stock_version: row.try_get("version")?,
    })
}

/// The first brands in the order of their bytes, at most `brands_max`. Each costs one probe of the index, however many products it
/// has.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_brands(
    connection: &mut PgConnection,
    brands_max: usize,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "-- From each brand to the next one.
         with recursive listed as (
             (select brand from shop.product where brand is not null order by brand limit 1)
             union all
             (select next.brand
                from listed
                cross join lateral (
                    select brand from shop.product where brand > listed.brand order by brand limit 1) next))
         select brand from listed limit $1",
    )
    .bind(limit(brands_max))
    .fetch_all(connection)
    .await?)
}
