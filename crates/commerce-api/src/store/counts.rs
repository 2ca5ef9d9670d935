//! Reads of `metrics.product_metrics`, which the streamer writes; it may live in another database.

use sqlx::PgConnection;

use super::StoreError;
use crate::store::catalog::limit;

/// What is counted of a product. A product without a row has zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Counts {
    pub(crate) like_count: i64,
    pub(crate) sales_count: i64,
    pub(crate) view_count: i64,
}

#[derive(sqlx::FromRow)]
struct Counted {
    product_id: i64,
    #[sqlx(flatten)]
    counts: Counts,
}

/// The counts of those products that have any.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_counts(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<Vec<(i64, Counts)>, StoreError> {
    let rows: Vec<Counted> = sqlx::query_as(
        "select product_id, like_count, sales_count, view_count
           from metrics.product_metrics where product_id = any($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.product_id, row.counts)).collect())
}

/// The most liked products first, at most `count`; those without likes are left out.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_most_liked(
    connection: &mut PgConnection,
    count: usize,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar(
        "select product_id from metrics.product_metrics
          where like_count > 0 order by like_count desc, product_id desc limit $1",
    )
    .bind(limit(count))
    .fetch_all(connection)
    .await?)
}
