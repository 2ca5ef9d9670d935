//! `shop.product_like`: a row is a like.

use sqlx::PgConnection;

use super::StoreError;
use crate::domain::page::Page;
use crate::store::catalog::{limit, offset};

/// Likes by buyer and product; each pair once, of products that exist. Answers those that are new.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn insert_likes(
    connection: &mut PgConnection,
    users: &[i64],
    products: &[i64],
) -> Result<Vec<(i64, i64)>, StoreError> {
    Ok(sqlx::query_as(
        "insert into shop.product_like (user_id, product_id)
         select w.user_id, w.product_id from unnest($1::bigint[], $2::bigint[]) as w(user_id, product_id)
          order by w.user_id, w.product_id
         on conflict (user_id, product_id) do nothing
         returning user_id, product_id",
    )
    .bind(users)
    .bind(products)
    .fetch_all(connection)
    .await?)
}

/// Takes likes back, each pair once; answers those that there were.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn delete_likes(
    connection: &mut PgConnection,
    users: &[i64],
    products: &[i64],
) -> Result<Vec<(i64, i64)>, StoreError> {
    Ok(sqlx::query_as(
        "-- Locked in one order, so that two processes never wait for each other in a circle.
         with gone as (
             select l.user_id, l.product_id
               from unnest($1::bigint[], $2::bigint[]) as w(user_id, product_id)
               join shop.product_like l using (user_id, product_id)
              order by l.user_id, l.product_id
                for update of l)
         delete from shop.product_like l using gone
          where l.user_id = gone.user_id and l.product_id = gone.product_id
         returning l.user_id, l.product_id",
    )
    .bind(users)
    .bind(products)
    .fetch_all(connection)
    .await?)
}

/// The products that a buyer likes, the latest like first; one more than the page holds when there are more.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_liked(
    connection: &mut PgConnection,
    user_id: i64,
    page: Page,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar(
        "select product_id from shop.product_like
          where user_id = $1
          order by created_at desc, product_id desc
          limit $2 offset $3",
    )
    .bind(user_id)
    .bind(limit(page.size + 1))
    .bind(offset(page))
    .fetch_all(connection)
    .await?)
}

/// Whether a buyer likes a product.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn is_liked(
    connection: &mut PgConnection,
    user_id: i64,
    product_id: i64,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "select exists (select from shop.product_like where user_id = $1 and product_id = $2)",
    )
    .bind(user_id)
    .bind(product_id)
    .fetch_one(connection)
    .await?)
}
