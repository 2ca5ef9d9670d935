//! `shop.orders`, `shop.order_line`, `shop.idempotent_response`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::Row;

use super::StoreError;
use crate::domain::Line;
use crate::domain::page::Page;
use crate::store::catalog::{limit, offset};

/// The constraint that a second request with the same key breaks.
pub(crate) const KEY_TAKEN: &str = "idempotent_response_pkey";

/// An order to be written.
pub(crate) struct NewOrder<'a> {
    pub(crate) user_id: i64,
    pub(crate) total_amount: i64,
    pub(crate) ordered_at: DateTime<Utc>,
    pub(crate) lines: &'a [Line],
    /// The client's key and the digest of its request.
    pub(crate) idempotency: Option<(&'a str, &'a [u8])>,
}

/// An order without its lines.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct OrderRow {
    pub(crate) id: i64,
    pub(crate) status: String,
    pub(crate) total_amount: i64,
    pub(crate) ordered_at: DateTime<Utc>,
}

/// Writes orders with their lines and remembered answers; their ids, in the same order.
///
/// # Errors
/// A refusal of [`KEY_TAKEN`] when one of the keys was used meanwhile; nothing may be committed then.
pub(crate) async fn insert_orders(
    connection: &mut PgConnection,
    orders: &[NewOrder<'_>],
) -> Result<Vec<i64>, StoreError> {
    let place = |index: usize| i64::try_from(index + 1).unwrap_or(i64::MAX);
    let mut line_places = Vec::new();
    let (mut line_numbers, mut products, mut quantities, mut prices) = (vec![], vec![], vec![], vec![]);
    let (mut key_places, mut keys, mut digests) = (vec![], vec![], vec![]);
    for (index, order) in orders.iter().enumerate() {
        for (number, line) in (1_i32..).zip(order.lines) {
            line_places.push(place(index));
            line_numbers.push(number);
            products.push(line.product_id);
            quantities.push(line.quantity);
            prices.push(line.unit_price);
        }
        if let Some((key, digest)) = order.idempotency {
            key_places.push(place(index));
            keys.push(key);
            digests.push(digest);
        }
    }
    Ok(sqlx::query_scalar(
        "-- Ids are drawn before, so that the lines know them.
         with placed as materialized (
             select nextval('shop.orders_id_seq') as id, o.*
               from unnest($1::bigint[], $2::bigint[], $3::timestamptz[])
                    with ordinality as o(user_id, total_amount, ordered_at, place)),
         written as (
             insert into shop.orders (id, user_id, total_amount, ordered_at) overriding system value
             select id, user_id, total_amount, ordered_at from placed order by place),
         lines as (
             insert into shop.order_line (order_id, line, product_id, quantity, unit_price)
             select placed.id, l.line, l.product_id, l.quantity, l.unit_price
               from unnest($4::bigint[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[])
                    as l(place, line, product_id, quantity, unit_price)
               join placed using (place)),
         remembered as (
             insert into shop.idempotent_response (user_id, idempotency_key, request_digest, order_id)
             select placed.user_id, k.key, k.digest, placed.id
               from unnest($9::bigint[], $10::text[], $11::bytea[]) as k(place, key, digest)
               join placed using (place)
              order by placed.user_id, k.key)
         select id from placed order by place",
    )
    .bind(orders.iter().map(|order| order.user_id).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.total_amount).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.ordered_at).collect::<Vec<_>>())
    .bind(line_places)
    .bind(line_numbers)
    .bind(products)
    .bind(quantities)
    .bind(prices)
    .bind(key_places)
    .bind(keys)
    .bind(digests)
    .fetch_all(connection)
    .await?)
}

/// Earlier requests with these keys of these buyers: buyer, key, digest, order.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn find_responses(
    connection: &mut PgConnection,
    users: &[i64],
    keys: &[&str],
) -> Result<Vec<(i64, String, Vec<u8>, i64)>, StoreError> {
    Ok(sqlx::query_as(
        "select r.user_id, r.idempotency_key, r.request_digest, r.order_id
           from (select distinct * from unnest($1::bigint[], $2::text[]) as w(user_id, key)) wanted
           join shop.idempotent_response r on r.user_id = wanted.user_id and r.idempotency_key = wanted.key",
    )
    .bind(users)
    .bind(keys)
    .fetch_all(connection)
    .await?)
}

/// An order of this buyer.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn find_order(
    connection: &mut PgConnection,
    user_id: i64,
    order_id: i64,
) -> Result<Option<OrderRow>, StoreError> {
    Ok(sqlx::query_as(
        "select id, status, total_amount, ordered_at from shop.orders where id = $1 and user_id = $2",
    )
    .bind(order_id)
    .bind(user_id)
    .fetch_optional(connection)
    .await?)
}

/// The lines of an order in their order.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_lines(
    connection: &mut PgConnection,
    order_id: i64,
) -> Result<Vec<Line>, StoreError> {
    let rows = sqlx::query(
        "select product_id, quantity, unit_price from shop.order_line where order_id = $1 order by line",
    )
    .bind(order_id)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Line {
                product_id: row.try_get("product_id")?,
                quantity: row.try_get("quantity")?,
                unit_price: row.try_get("unit_price")?,
            })
        })
        .collect()
}

/// A buyer's orders, the newest first; one more than the page holds when there are more.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_orders(
    connection: &mut PgConnection,
    user_id: i64,
    page: Page,
) -> Result<Vec<OrderRow>, StoreError> {
    Ok(sqlx::query_as(
        "select id, status, total_amount, ordered_at from shop.orders
          where user_id = $1 order by id desc limit $2 offset $3",
    )
    .bind(user_id)
    .bind(limit(page.size + 1))
    .bind(offset(page))
    .fetch_all(connection)
    .await?)
}

/// Marks a completed order of this buyer as cancelled; false when it is not his, or not completed any more.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn cancel_order(
    connection: &mut PgConnection,
    user_id: i64,
    order_id: i64,
    cancelled_at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "update shop.orders set status = 'cancelled', version = version + 1, cancelled_at = $3
          where id = $1 and user_id = $2 and kind = 'sale' and status = 'completed'",
    )
    .bind(order_id)
    .bind(user_id)
    .bind(cancelled_at)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
