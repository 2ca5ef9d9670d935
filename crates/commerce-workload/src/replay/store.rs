//! `shop.replay_progress`.

use sqlx::PgConnection;
use sqlx::types::Json;

use super::report::Tally;

/// How far a file is.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Progress {
    pub(super) format: String,
    pub(super) lines_done: i64,
    pub(super) report: Json<Tally>,
    pub(super) finished: bool,
}

/// The file's progress; a file that is new, or of which nothing was applied yet, is of `format`.
pub(super) async fn open_progress(
    connection: &mut PgConnection,
    digest: &str,
    format: &str,
) -> Result<Progress, sqlx::Error> {
    sqlx::query(
        "insert into shop.replay_progress as p (file_digest, format) values ($1, $2)
         on conflict (file_digest) do update set format = excluded.format where p.lines_done = 0",
    )
    .bind(digest)
    .bind(format)
    .execute(&mut *connection)
    .await?;
    load_progress(connection, digest).await
}

/// The file's progress as it is stored.
pub(super) async fn load_progress(
    connection: &mut PgConnection,
    digest: &str,
) -> Result<Progress, sqlx::Error> {
    sqlx::query_as(
        "select format, lines_done, report, finished from shop.replay_progress where file_digest = $1",
    )
    .bind(digest)
    .fetch_one(connection)
    .await
}

/// Locks the file's progress until the transaction ends; answers the lines done.
pub(super) async fn lock_progress(tx: &mut PgConnection, digest: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select lines_done from shop.replay_progress where file_digest = $1 for update")
        .bind(digest)
        .fetch_one(tx)
        .await
}

/// Moves the progress that [`lock_progress`] has locked; answers the rows changed.
pub(super) async fn move_progress(
    tx: &mut PgConnection,
    digest: &str,
    (from, to): (i64, i64),
    report: &Tally,
    finished: bool,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update shop.replay_progress
            set lines_done = $3, report = $4, finished = $5, updated_at = clock_timestamp()
          where file_digest = $1 and lines_done = $2 and not finished",
    )
    .bind(digest)
    .bind(from)
    .bind(to)
    .bind(Json(report))
    .bind(finished)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Products in the shop.
pub(super) async fn count_products(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from shop.product").fetch_one(connection).await
}
