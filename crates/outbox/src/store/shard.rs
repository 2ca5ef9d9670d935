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

/// Claims `owner`'s own shards and at most `free_max` of those that nobody owns, and raises their epochs.
///
/// Its own ones are waited for: the last statement of its former self may still hold one.
pub(crate) async fn claim_shards(
    connection: &mut PgConnection,
    owner: &str,
    lease: Duration,
    free_max: i64,
) -> Result<Vec<ClaimedShard>, sqlx::Error> {
    sqlx::query_as(
        "with own as (select shard from outbox.shard where owner = $1 order by shard for update),
              free as (
             -- Rows that another relay claims at this moment are its.
             select shard from outbox.shard
              where owner is null or (owner <> $1 and lease_until <= clock_timestamp())
              order by shard
              limit $3
                for update skip locked),
              -- A relay that owns shards lives as long as its leases.
              alive as (
             insert into outbox.relay (owner, seen_until)
             values ($1, clock_timestamp() + make_interval(secs => $2))
                 on conflict (owner) do update set seen_until = excluded.seen_until)
         update outbox.shard s
            set owner = $1, epoch = s.epoch + 1, lease_until = clock_timestamp() + make_interval(secs => $2)
           from (select shard from own union all select shard from free) as claimed
          where claimed.shard = s.shard
         returning s.shard, s.epoch, s.position::text as position, s.window_end::text as window_end, s.window_last_id",
    )
    .bind(owner)
    .bind(lease.as_secs_f64())
    .bind(free_max)
    .fetch_all(connection)
    .await
}

/// Gives the shards back, so that the next owner need not wait for the leases to run out.
pub(crate) async fn release_shards(
    connection: &mut PgConnection,
    owned: &Epochs,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update outbox.shard s
            set owner = null, lease_until = clock_timestamp()
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
pub(super) async fn fenced<'o>(
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
