//! Reads of `outbox.unpublished`.

use sqlx::PgConnection;

/// Number of rows, and seconds since the oldest one's `occurred_at`.
pub(crate) async fn load_backlog(connection: &mut PgConnection) -> Result<(i64, Option<f64>), sqlx::Error> {
    sqlx::query_as(
        "select count(*), extract(epoch from clock_timestamp() - min(occurred_at))::float8 from outbox.unpublished",
    )
    .fetch_one(connection)
    .await
}
