//! Rows of `outbox.parked` as the relay writes, releases and counts them.

use sqlx::{Connection, PgConnection};

use super::shard::Epochs;
use super::window::{WholeEvent, sent_columns, whole_columns};

/// An event that is set aside instead of being published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParkedEvent {
    pub(crate) event: WholeEvent,
    /// Why; `None` when it only waits behind a refused record of its key.
    pub(crate) refused: Option<Refused>,
}

/// What the broker said about a record that it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its class.
    pub(crate) reason: &'static str,
    pub(crate) error: String,
}

const INSERT: &str = "
    insert into outbox.parked
           (shard, id, event_id, system_identifier, timeline, event_type, aggregate_type, aggregate_id,
            aggregate_version, topic, partition_key, payload, headers, traceparent, occurred_at, state, reason, error,
            attempts)
    select e.shard, e.id, e.event_id, e.system_identifier, e.timeline, e.event_type, e.aggregate_type, e.aggregate_id,
           e.aggregate_version, e.topic, e.partition_key, e.payload, e.headers, e.traceparent, e.occurred_at,
           case when e.reason is null then 'waiting' else 'refused' end, e.reason, e.error,
           case when e.reason is null then 0 else 1 end
      from unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::integer[], $6::text[], $7::text[],
                  $8::text[], $9::bigint[], $10::text[], $11::text[], $12::bytea[], $13::bytea[], $14::text[],
                  $15::timestamptz[], $16::text[], $17::text[])
           as e (shard, id, event_id, system_identifier, timeline, event_type, aggregate_type, aggregate_id,
                 aggregate_version, topic, partition_key, payload, headers, traceparent, occurred_at, reason, error)
        -- A position that was set back by hand comes by a second time.
        on conflict on constraint parked_pkey do nothing";

/// Begins a transaction and sets the events aside in it: they are parked if and only if the positions that pass them
/// are written in the same transaction. [`commit_parking`] ends it, or the end of the connection takes it back.
pub(crate) async fn begin_parking(
    connection: &mut PgConnection,
    parked: &[ParkedEvent],
) -> Result<(), sqlx::Error> {
    sqlx::query("begin").execute(&mut *connection).await?;
    let events = || parked.iter().map(|parked| &parked.event);
    let refused = || parked.iter().map(|parked| parked.refused.as_ref());
    sqlx::query(INSERT)
        .bind(events().map(|event| event.shard).collect::<Vec<_>>())
        .bind(events().map(|event| event.id).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_id).collect::<Vec<_>>())
        .bind(events().map(|event| event.history.system_identifier).collect::<Vec<_>>())
        .bind(events().map(|event| event.history.timeline).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_type.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.aggregate_type.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.aggregate_id.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.aggregate_version).collect::<Vec<_>>())
        .bind(events().map(|event| event.topic.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.partition_key.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.payload.as_deref()).collect::<Vec<_>>())
        .bind(events().map(|event| event.headers.as_deref()).collect::<Vec<_>>())
        .bind(events().map(|event| event.traceparent.as_deref()).collect::<Vec<_>>())
        .bind(events().map(|event| event.occurred_at).collect::<Vec<_>>())
        .bind(refused().map(|refused| refused.map(|refused| refused.reason)).collect::<Vec<_>>())
        .bind(refused().map(|refused| refused.map(|refused| refused.error.as_str())).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends what [`begin_parking`] began.
pub(crate) async fn commit_parking(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("commit").execute(connection).await?;
    Ok(())
}

/// A number that rises with every action of an operator on these shards.
pub(crate) async fn load_revision(connection: &mut PgConnection, shards: &[i16]) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(sum(revision), 0)::bigint from outbox.parked_change where shard = any($1::smallint[])",
    )
    .bind(shards)
    .fetch_one(connection)
    .await
}

/// A key with parked rows, and how many.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct BlockedKey {
    pub(crate) topic: String,
    pub(crate) partition_key: String,
    pub(crate) refused: i64,
    pub(crate) waiting: i64,
}

/// Every key of these shards that has parked rows.
pub(crate) async fn load_blocked_keys(
    connection: &mut PgConnection,
    shards: &[i16],
) -> Result<Vec<BlockedKey>, sqlx::Error> {
    sqlx::query_as(
        "select topic, partition_key, count(*) filter (where state = 'refused') as refused,
                count(*) filter (where state = 'waiting') as waiting
           from outbox.parked
          where shard = any($1::smallint[])
          group by topic, partition_key",
    )
    .bind(shards)
    .fetch_all(connection)
    .await
}

/// Where a page of rows to be released ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReleasedUntil {
    pub(crate) shard: i16,
    pub(crate) id: i64,
}

impl ReleasedUntil {
    /// Before every row.
    pub(crate) const BEGIN: Self = Self { shard: i16::MIN, id: i64::MIN };
}

/// Rows of one page are so many at most.
pub(crate) const RELEASE_PAGE_ROWS: i64 = 1_000;

const RELEASABLE: &str = concat!(
    "select ",
    whole_columns!(),
    "  from (select p.*, sum(octet_length(coalesce(payload, '')) + octet_length(coalesce(headers, '')))
                             over (order by shard, id rows unbounded preceding)
                         - octet_length(coalesce(payload, '')) - octet_length(coalesce(headers, '')) as bytes_before
               from (select * from outbox.parked p
                      where p.shard = any($1::smallint[]) and (p.shard, p.id) > ($2, $3)
                        and not exists (select from outbox.parked r
                                         where r.topic = p.topic and r.partition_key = p.partition_key
                                           and r.state = 'refused')
                      order by p.shard, p.id
                      limit $4) as p) as page
        -- At least one row, however large.
      where bytes_before <= $5
      order by shard, id"
);

/// The next rows whose keys have no refused row, in the order of their ids within a shard.
pub(crate) async fn load_releasable(
    connection: &mut PgConnection,
    shards: &[i16],
    after: ReleasedUntil,
    bytes_max: i64,
) -> Result<Vec<WholeEvent>, sqlx::Error> {
    sqlx::query_as(RELEASABLE)
        .bind(shards)
        .bind(after.shard)
        .bind(after.id)
        .bind(RELEASE_PAGE_ROWS)
        .bind(bytes_max)
        .fetch_all(connection)
        .await
}

/// What became of released rows.
#[derive(Debug, Default)]
pub(crate) struct Released<'r> {
    /// Published: shard and id.
    pub(crate) published: Vec<(i16, i64)>,
    /// Refused again.
    pub(crate) refused: Vec<(i16, i64, &'r Refused)>,
}

/// Deletes what is published and marks what was refused again, if the shards are still owned under these epochs;
/// answers how many are. Changes nothing unless all are.
///
/// Locks parked rows before rows of `outbox.shard`, as the writing of a position does.
pub(crate) async fn settle_released(
    connection: &mut PgConnection,
    owned: &Epochs,
    released: &Released<'_>,
) -> Result<u64, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let (shards, ids): (Vec<_>, Vec<_>) = released.published.iter().copied().unzip();
    sqlx::query(
        "delete from outbox.parked p
          using unnest($1::smallint[], $2::bigint[]) as published (shard, id)
          where p.shard = published.shard and p.id = published.id",
    )
    .bind(shards)
    .bind(ids)
    .execute(&mut *tx)
    .await?;
    let refused = &released.refused;
    sqlx::query(
        "update outbox.parked p
            set state = 'refused', reason = refused.reason, error = refused.error, attempts = p.attempts + 1,
                parked_at = clock_timestamp()
           from unnest($1::smallint[], $2::bigint[], $3::text[], $4::text[]) as refused (shard, id, reason, error)
          where p.shard = refused.shard and p.id = refused.id",
    )
    .bind(refused.iter().map(|(shard, _, _)| *shard).collect::<Vec<_>>())
    .bind(refused.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
    .bind(refused.iter().map(|(_, _, refused)| refused.reason).collect::<Vec<_>>())
    .bind(refused.iter().map(|(_, _, refused)| refused.error.as_str()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    let still_owned = sqlx::query(
        "select s.shard from outbox.shard s
           join unnest($1::smallint[], $2::bigint[]) as owned (shard, epoch) using (shard)
          where s.epoch = owned.epoch
            for share of s",
    )
    .bind(&owned.shards)
    .bind(&owned.epochs)
    .fetch_all(&mut *tx)
    .await?
    .len();
    if still_owned == owned.shards.len() {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(u64::try_from(still_owned).unwrap_or(u64::MAX))
}
