//! `inbox.source`: producers whose events are remembered as bits.

use sqlx::PgConnection;

/// The number of a source, if it is known.
pub(crate) async fn find_source(
    connection: &mut PgConnection,
    source: &str,
) -> Result<Option<i16>, sqlx::Error> {
    sqlx::query_scalar("select source_id from inbox.source where ce_source = $1")
        .bind(source)
        .fetch_optional(connection)
        .await
}

/// Adds a source while there are fewer than `sources_max`; processes that do so at the same time may go a little over.
pub(crate) async fn insert_source(
    connection: &mut PgConnection,
    source: &str,
    sources_max: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into inbox.source (ce_source)
         select $1 where (select count(*) from inbox.source) < $2
         on conflict do nothing",
    )
    .bind(source)
    .bind(sources_max)
    .execute(connection)
    .await?;
    Ok(())
}
