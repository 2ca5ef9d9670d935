//! `shop.stock`: rows are locked in product order, then changed; every change raises the version by one.
//!
//! Locking and changing are two statements on purpose. In one statement the change would begin from the snapshot before
//! the wait, and its recheck against the newer row drops rows of a join (seen on PostgreSQL 18: an order was refused
//! although there was enough). The second statement's snapshot is newer than every lock that it holds.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Either, FromRow, PgConnection};

use super::StoreError;

/// The stock of a product whose row this transaction has locked.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct Locked {
    pub(crate) product_id: i64,
    pub(crate) quantity: i64,
    pub(crate) version: i64,
}

/// Units to add to a product's stock, or to take from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    pub(crate) product_id: i64,
    pub(crate) units: i64,
}

/// A stock after its change.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct Shifted {
    pub(crate) product_id: i64,
    pub(crate) quantity: i64,
    pub(crate) version: i64,
}

/// Locks rows in product order, the order in which everybody locks.
macro_rules! lock_rows {
    ($ids:literal) => {
        concat!(
            "select product_id, quantity, version from shop.stock where product_id = any(",
            $ids,
            ") order by product_id for update"
        )
    };
}

/// Locks the stock of those products that exist until the transaction ends; answers in product order, the order in
/// which everybody locks, so that nobody waits in a ring.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn lock_stock(
    connection: &mut PgConnection,
    product_ids: &[i64],
) -> Result<Vec<Locked>, StoreError> {
    Ok(sqlx::query_as(lock_rows!("$1")).bind(product_ids).fetch_all(connection).await?)
}

/// As [`lock_stock`], with the prices of those products that exist, by id, as they are once all rows are locked: two statements in
/// one message.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn lock_stock_and_prices(
    connection: &mut PgConnection,
    product_ids: &[i64],
) -> Result<(Vec<Locked>, HashMap<i64, i64>), StoreError> {
    // A message of several statements takes no parameters; numbers are safe as they are.
    let ids: Vec<String> = product_ids.iter().map(i64::to_string).collect();
    let statements = format!(
        concat!(
            lock_rows!("'{{{ids}}}'::bigint[]"),
            "; select id, price from shop.product where id = any('{{{ids}}}'::bigint[])"
        ),
        ids = ids.join(",")
    );
    let mut answers = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_many(connection);
    let (mut locked, mut prices) = (Vec::new(), HashMap::new());
    let mut is_locked = false;
    while let Some(answer) = answers.try_next().await? {
        match answer {
            Either::Left(_) => is_locked = true,
            Either::Right(row) if is_locked => {
                let (product_id, price) = FromRow::from_row(&row)?;
                prices.insert(product_id, price);
            }
            Either::Right(row) => locked.push(Locked::from_row(&row)?),
        }
    }
    Ok((locked, prices))
}

/// Changes stocks that [`lock_stock`] has locked in the same transaction; distinct products. Answers in product order.
///
/// # Errors
/// A refusal of `stock_quantity_not_negative` when more is taken than there is.
pub(crate) async fn shift_stock(
    connection: &mut PgConnection,
    shifts: &[Shift],
) -> Result<Vec<Shifted>, StoreError> {
    let (products, units): (Vec<i64>, Vec<i64>) =
        shifts.iter().map(|shift| (shift.product_id, shift.units)).unzip();
    Ok(sqlx::query_as(
        "with shifted as (
             update shop.stock s
                set quantity = s.quantity + w.units, version = s.version + 1, updated_at = clock_timestamp()
               from unnest($1::bigint[], $2::bigint[]) as w(product_id, units)
              where s.product_id = w.product_id
             returning s.product_id, s.quantity, s.version)
         select product_id, quantity, version from shifted order by product_id",
    )
    .bind(products)
    .bind(units)
    .fetch_all(connection)
    .await?)
}
