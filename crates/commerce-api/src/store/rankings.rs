//! Reads of `metrics.product_hour`, which the streamer writes; it may live in another database.

use std::time::Duration;

use sqlx::PgConnection;

use super::StoreError;
use crate::domain::ranking::Window;
use crate::store::catalog::limit;

/// What counts how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights {
    pub(crate) views: f64,
    pub(crate) likes: f64,
    /// Of the logarithm of the amount sold.
    pub(crate) sales: f64,
    /// Of the score in the hours that are carried over.
    pub(crate) carried: f64,
}

/// A product in a ranking.
#[derive(Debug, Clone, Copy, PartialEq, sqlx::FromRow)]
pub(crate) struct Place {
    pub(crate) product_id: i64,
    pub(crate) score: f64,
}

/// Ends each further statement of the transaction after `timeout`.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn bound_statements(
    connection: &mut PgConnection,
    timeout: Duration,
) -> Result<(), StoreError> {
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .bind(format!("{}ms", timeout.as_millis().max(1)))
        .execute(connection)
        .await?;
    Ok(())
}

/// The first `count` places of a window; products without a score above zero have none. Equal scores: the newer product
/// first.
///
/// # Errors
/// When the database does not answer in time.
pub(crate) async fn list_places(
    connection: &mut PgConnection,
    window: Window,
    weights: Weights,
    count: usize,
) -> Result<Vec<Place>, StoreError> {
    Ok(sqlx::query_as(
        // summed: what happened to each product in the window, and in the hours that are carried over. Sums of float8 are
        // exact up to 2^53, beyond which a logarithm does not see the difference, and cost a third less than numeric.
        "with summed as (
             select product_id, hour >= $2 as is_own, sum(view_count::float8) as views,
                    sum(like_count::float8) as likes, sum(sales_amount::float8) as amount
               from metrics.product_hour
              where hour >= $1 and hour < $3
              group by product_id, hour >= $2),
         -- More taken back than given is worth nothing, not less than nothing.
         scored as (
             select product_id,
                    sum(case when is_own then 1 else $4 end
                        * ($5 * greatest(views, 0) + $6 * greatest(likes, 0) + $7 * ln(1 + greatest(amount, 0)))
                    ) as score
               from summed group by product_id)
         select product_id, score from scored where score > 0 order by score desc, product_id desc limit $8",
    )
    .bind(window.carried_from)
    .bind(window.from)
    .bind(window.to)
    .bind(weights.carried)
    .bind(weights.views)
    .bind(weights.likes)
    .bind(weights.sales)
    .bind(limit(count))
    .fetch_all(connection)
    .await?)
}
