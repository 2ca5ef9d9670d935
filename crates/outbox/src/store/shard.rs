//! Ownership and positions: rows of `outbox.shard`.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::PgConnection;

use crate::relay::kill::is_sabotaged;

/// A shard that was claimed, as stored.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ClaimedShard {
    pub(crate) shard: i16,
    pub(crate) epoch: i64,
    pub(crate) position: String,
    pub(crate) window_end: Option<String>,
    pub(crate) window_last_id: Option<i64>,
}

/// Shards with the epochs under which they are owned, as parallel arrays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    pub(crate) shards: Vec<i16>,
    pub(crate) epochs: Vec<i64>,
}

/// Claims every shard that is free, whose lease has run out, or that is `owner`'s own, and raises its epoch.
pub(crate) async fn claim_shards(
    connection: &mut PgConnection,
    owner: &str,
    lease: Duration,
) -> Result<Vec<ClaimedShard>, sqlx::Error> {
    sqlx::query_as(
        "with claimable as (
             -- Rows that another relay claims at this moment are its.
             select shard from outbox.shard
              where owner = $1 or owner is null or lease_until <= clock_timestamp()
              order by shard
                for update skip locked)
         update outbox.shard s
            set owner = $1, epoch = s.epoch + 1, lease_until = clock_timestamp() + make_interval(secs => $2)
           from claimable c
          where c.shard = s.shard
         returning s.shard, s.epoch, s.position::text as position, s.window_end::text as window_end, s.window_last_id",
    )
    .bind(owner)
    .bind(lease.as_secs_f64())
    .fetch_all(connection)
    .await
}

/// Shards that another relay owned and whose lease has run out.
pub(crate) async fn count_claimable(connection: &mut PgConnection, owner: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from outbox.shard
          where owner is null or (owner <> $1 and lease_until <= clock_timestamp())",
    )
    .bind(owner)
    .fetch_one(connection)
    .await
}

/// Prolongs the leases; answers how many are still owned under their epoch.
pub(crate) async fn renew_leases(
    connection: &mut PgConnection,
    owned: &Epochs,
    lease: Duration,
) -> Result<u64, sqlx::Error> {
    let owned = fenced(connection, owned).await?;
    let done = sqlx::query(
        "update outbox.shard s
            set lease_until = clock_timestamp() + make_interval(secs => $3)
           from unnest($1::smallint[], $2::bigint[]) as owned (shard, epoch)
          where s.shard = owned.shard and s.epoch = owned.epoch",
    )
    .bind(&owned.shards)
    .bind(&owned.epochs)
    .bind(lease.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Gives the shards back, so that the next owner need not wait for the leases to run out.
pub(crate) async fn release_shards(
    connection: &mut PgConnection,
    owned: &Epochs,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update outbox.shard s
            set lease_until = clock_timestamp()
           from unnest($1::smallint[], $2::bigint[]) as owned (shard, epoch)
          where s.shard = owned.shard and s.epoch = owned.epoch",
    )
    .bind(&owned.shards)
    .bind(&owned.epochs)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Moves the positions of shards that are owned under these epochs; answers how many were.
pub(crate) async fn update_positions(
    connection: &mut PgConnection,
    owned: &Epochs,
    position: &str,
    window: Option<(&str, i64)>,
) -> Result<u64, sqlx::Error> {
    let owned = fenced(connection, owned).await?;
    let done = sqlx::query(
        "update outbox.shard s
            set position = $3::text::pg_snapshot, window_end = $4::text::pg_snapshot, window_last_id = $5
           from unnest($1::smallint[], $2::bigint[]) as owned (shard, epoch)
          where s.shard = owned.shard and s.epoch = owned.epoch",
    )
    .bind(&owned.shards)
    .bind(&owned.epochs)
    .bind(position)
    .bind(window.map(|(end, _)| end))
    .bind(window.map(|(_, last_id)| last_id))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The epochs that a statement names: those under which the shards were claimed. When a harness has taken the fence away,
/// whichever are stored.
async fn fenced<'o>(
    connection: &mut PgConnection,
    owned: &'o Epochs,
) -> Result<Cow<'o, Epochs>, sqlx::Error> {
    if !is_sabotaged("relay.no_epoch_check") {
        return Ok(Cow::Borrowed(owned));
    }
    let stored: Vec<(i16, i64)> =
        sqlx::query_as("select shard, epoch from outbox.shard where shard = any($1) order by shard")
            .bind(&owned.shards)
            .fetch_all(connection)
            .await?;
    let (shards, epochs) = stored.into_iter().unzip();
    Ok(Cow::Owned(Epochs { shards, epochs }))
}
