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

/// Counts that a list can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CountOrder {
    Likes,
    Sales,
    Views,
}

impl CountOrder {
    pub(crate) const ALL: [Self; 3] = [Self::Likes, Self::Sales, Self::Views];
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

/// The products with the highest count first, at most `count`; those without any are left out. Reads the whole table:
/// an index on a count would make every event that changes it write the index as well.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_most_counted(
    connection: &mut PgConnection,
    order: CountOrder,
    count: usize,
) -> Result<Vec<i64>, StoreError> {
    let sql = match order {
        CountOrder::Likes => {
            "select product_id from metrics.product_metrics
              where like_count > 0 order by like_count desc, product_id desc limit $1"
        }
        CountOrder::Sales => {
            "select product_id from metrics.product_metrics
              where sales_count > 0 order by sales_count desc, product_id desc limit $1"
        }
        CountOrder::Views => {
            "select product_id from metrics.product_metrics
              where view_count > 0 order by view_count desc, product_id desc limit $1"
        }
    };
    Ok(sqlx::query_scalar(sql).bind(limit(count)).fetch_all(connection).await?)
}

/// Those of `ids` that are counted at all, the highest count first.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_most_counted_of(
    connection: &mut PgConnection,
    order: CountOrder,
    ids: &[i64],
) -> Result<Vec<i64>, StoreError> {
    let sql = match order {
        CountOrder::Likes => {
            "select product_id from metrics.product_metrics
              where product_id = any($1) and like_count > 0 order by like_count desc, product_id desc"
        }
        CountOrder::Sales => {
            "select product_id from metrics.product_metrics
              where product_id = any($1) and sales_count > 0 order by sales_count desc, product_id desc"
        }
        CountOrder::Views => {
            "select product_id from metrics.product_metrics
              where product_id = any($1) and view_count > 0 order by view_count desc, product_id desc"
        }
    };
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(connection).await?)
}
