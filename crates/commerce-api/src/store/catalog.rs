//! Reads of products for buyers.

use product_cache::Card;
use sqlx::PgConnection;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::StoreError;
use crate::domain::page::Page;

/// The cards of the products that exist, in no particular order.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_cards(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Card>, StoreError> {
    let rows = sqlx::query(
        "select p.id, p.code, p.name, p.price, s.quantity = 0 as sold_out, s.version
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

/// The cheapest products first; one more than the page holds when there are more.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_cheapest_ids(
    connection: &mut PgConnection,
    page: Page,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar("select id from shop.product order by price, id limit $1 offset $2")
        .bind(limit(page.size + 1))
        .bind(offset(page))
        .fetch_all(connection)
        .await?)
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
        price: row.try_get("price")?,
        sold_out: row.try_get("sold_out")?,
        stock_version: row.try_get("version")?,
    })
}
