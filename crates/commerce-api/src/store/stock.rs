//! `shop.stock`: every change locks its rows in product order and raises their version by one.

use sqlx::PgConnection;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::StoreError;
use crate::domain::order::{StockChange, Wanted};

/// What became of one wanted product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reservation {
    pub(crate) product_id: i64,
    /// `None`: there is no such product.
    pub(crate) unit_price: Option<i64>,
    /// `None`: there was not enough.
    pub(crate) change: Option<StockChange>,
}

/// Takes the units of every wanted product that has enough; `wanted` is in product order without repetition. The
/// caller rolls back unless every product was taken.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn reserve(
    connection: &mut PgConnection,
    wanted: &[Wanted],
) -> Result<Vec<Reservation>, StoreError> {
    let (products, quantities) = columns(wanted);
    let rows = sqlx::query(
        "with wanted as (
             select product_id, quantity from unnest($1::bigint[], $2::bigint[]) as w(product_id, quantity)),
         -- Locks in product order before anything is changed, so that orders never wait for each other in a ring.
         locked as materialized (
             select s.product_id
               from shop.stock s join wanted using (product_id)
              order by s.product_id
                for update of s),
         taken as (
             update shop.stock s
                set quantity = s.quantity - wanted.quantity, version = s.version + 1, updated_at = clock_timestamp()
               from locked join wanted using (product_id)
              where s.product_id = locked.product_id and s.quantity >= wanted.quantity
             returning s.product_id, s.quantity, s.version)
         select wanted.product_id, wanted.quantity as moved, p.price, taken.quantity as after, taken.version
           from wanted
           left join shop.product p on p.id = wanted.product_id
           left join taken on taken.product_id = wanted.product_id
          order by wanted.product_id",
    )
    .bind(products)
    .bind(quantities)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let moved: i64 = row.try_get("moved")?;
            Ok(Reservation {
                product_id: row.try_get("product_id")?,
                unit_price: row.try_get("price")?,
                change: change(row, |after| after + moved)?,
            })
        })
        .collect()
}

/// Gives the units back; `units` is in product order without repetition.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn give_back(
    connection: &mut PgConnection,
    units: &[Wanted],
) -> Result<Vec<StockChange>, StoreError> {
    let (products, quantities) = columns(units);
    let rows = sqlx::query(
        "with given as (
             select product_id, quantity from unnest($1::bigint[], $2::bigint[]) as g(product_id, quantity)),
         locked as materialized (
             select s.product_id
               from shop.stock s join given using (product_id)
              order by s.product_id
                for update of s)
         update shop.stock s
            set quantity = s.quantity + given.quantity, version = s.version + 1, updated_at = clock_timestamp()
           from locked join given using (product_id)
          where s.product_id = locked.product_id
         returning s.product_id, given.quantity as moved, s.quantity as after, s.version",
    )
    .bind(products)
    .bind(quantities)
    .fetch_all(connection)
    .await?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        let moved: i64 = row.try_get("moved")?;
        changes.extend(change(row, |after| after - moved)?);
    }
    changes.sort_by_key(|change: &StockChange| change.product_id);
    Ok(changes)
}

/// Sets the units of one product; `None` when there is no such product.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn set_quantity(
    connection: &mut PgConnection,
    product_id: i64,
    quantity: i64,
) -> Result<Option<StockChange>, StoreError> {
    let row = sqlx::query(
        "with locked as materialized (
             select product_id, quantity from shop.stock where product_id = $1 for update)
         update shop.stock s
            set quantity = $2, version = s.version + 1, updated_at = clock_timestamp()
           from locked
          where s.product_id = locked.product_id
         returning s.product_id, locked.quantity as before, s.quantity as after, s.version",
    )
    .bind(product_id)
    .bind(quantity)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let before: i64 = row.try_get("before")?;
    change(&row, |_after| before)
}

fn columns(units: &[Wanted]) -> (Vec<i64>, Vec<i64>) {
    units.iter().map(|one| (one.product_id, one.quantity)).unzip()
}

fn change(row: &PgRow, before: impl FnOnce(i64) -> i64) -> Result<Option<StockChange>, StoreError> {
    let Some(after) = row.try_get::<Option<i64>, _>("after")? else { return Ok(None) };
    Ok(Some(StockChange {
        product_id: row.try_get("product_id")?,
        before: before(after),
        after,
        version: row.try_get("version")?,
    }))
}
