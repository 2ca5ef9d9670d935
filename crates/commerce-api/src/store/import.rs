//! Recorded history in bulk: one set-based statement per table and call.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreError;

/// An order's head as recorded.
pub(crate) struct OrderHead<'a> {
    pub(crate) external_id: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) user_id: Option<i64>,
    pub(crate) ordered_at: DateTime<Utc>,
    /// Of the lines in this call.
    pub(crate) amount: i64,
}

/// An order's head as stored.
#[derive(sqlx::FromRow)]
pub(crate) struct StoredHead {
    pub(crate) id: i64,
    pub(crate) external_id: String,
    pub(crate) kind: String,
    pub(crate) user_id: Option<i64>,
    /// 1 for an order that did not exist before the call.
    pub(crate) version: i64,
}

/// Creates the products whose code is new, each with `stock` units; distinct codes.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn insert_missing_products(
    connection: &mut PgConnection,
    codes: &[&str],
    names: &[&str],
    prices: &[i64],
    stock: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "with created as (
             insert into shop.product (code, name, price)
             select code, name, price
               from unnest($1::text[], $2::text[], $3::bigint[]) as w(code, name, price)
              -- Most codes of a call exist: they must not use up an id each.
              where not exists (select from shop.product p where p.code = w.code collate \"C\")
             on conflict (code) do nothing
             returning id)
         insert into shop.stock (product_id, quantity) select id, $4 from created",
    )
    .bind(codes)
    .bind(names)
    .bind(prices)
    .bind(stock)
    .execute(connection)
    .await?;
    Ok(())
}

/// The ids of the codes, in no particular order.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_product_ids(
    connection: &mut PgConnection,
    codes: &[&str],
) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(sqlx::query_as("select code, id from shop.product where code = any($1)")
        .bind(codes)
        .fetch_all(connection)
        .await?)
}

/// Writes the heads, or adds to those that exist; distinct external ids.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn upsert_heads(
    connection: &mut PgConnection,
    heads: &[OrderHead<'_>],
) -> Result<Vec<StoredHead>, StoreError> {
    let external_ids: Vec<&str> = heads.iter().map(|head| head.external_id).collect();
    let kinds: Vec<&str> = heads.iter().map(|head| head.kind).collect();
    let users: Vec<Option<i64>> = heads.iter().map(|head| head.user_id).collect();
    let times: Vec<DateTime<Utc>> = heads.iter().map(|head| head.ordered_at).collect();
    let amounts: Vec<i64> = heads.iter().map(|head| head.amount).collect();
    Ok(sqlx::query_as(
        "insert into shop.orders as o (external_id, kind, user_id, ordered_at, total_amount)
         select * from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bigint[])
         on conflict on constraint orders_external_id
         do update set total_amount = o.total_amount + excluded.total_amount, version = o.version + 1
         returning o.id, o.external_id, o.kind, o.user_id, o.version",
    )
    .bind(external_ids)
    .bind(kinds)
    .bind(users)
    .bind(times)
    .bind(amounts)
    .fetch_all(connection)
    .await?)
}

/// Columns of order lines.
#[derive(Default)]
pub(crate) struct LineColumns {
    pub(crate) orders: Vec<i64>,
    pub(crate) products: Vec<i64>,
    pub(crate) quantities: Vec<i64>,
    pub(crate) prices: Vec<i64>,
}

/// Writes the lines; the numbers of each order's lines go on after those that it has. The orders' rows are locked by
/// [`upsert_heads`] in the same transaction.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn insert_lines(
    connection: &mut PgConnection,
    lines: &LineColumns,
) -> Result<(), StoreError> {
    sqlx::query(
        "with added as (
             select order_id, product_id, quantity, unit_price,
                    row_number() over (partition by order_id order by place) as place
               from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                    with ordinality as a(order_id, product_id, quantity, unit_price, place)),
         present as (
             select o.order_id, (select max(line) from shop.order_line l where l.order_id = o.order_id) as last_line
               from (select distinct order_id from added) o)
         insert into shop.order_line (order_id, line, product_id, quantity, unit_price)
         select order_id, (coalesce(last_line, 0) + place)::integer, product_id, quantity, unit_price
           from added join present using (order_id)",
    )
    .bind(&lines.orders)
    .bind(&lines.products)
    .bind(&lines.quantities)
    .bind(&lines.prices)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the likes that are new; answers those, in no particular order.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn insert_likes(
    connection: &mut PgConnection,
    users: &[i64],
    products: &[i64],
    times: &[DateTime<Utc>],
) -> Result<Vec<(i64, i64, DateTime<Utc>)>, StoreError> {
    Ok(sqlx::query_as(
        "insert into shop.product_like (user_id, product_id, created_at)
         select * from unnest($1::bigint[], $2::bigint[], $3::timestamptz[])
         on conflict (user_id, product_id) do nothing
         returning user_id, product_id, created_at",
    )
    .bind(users)
    .bind(products)
    .bind(times)
    .fetch_all(connection)
    .await?)
}
