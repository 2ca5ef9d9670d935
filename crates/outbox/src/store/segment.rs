//! Ring segments of `outbox.event`: what they hold, whether it is still needed, and truncation.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::has_code;
use crate::SHARDS;
use crate::retention::{Kept, decide_kept};

/// Key of the advisory lock under which segments are truncated (`outb` `trun` in ASCII).
const LOCK_KEY: i64 = 0x6f75_7462_7472_756e;
/// Longest time for which a truncation may hold its lock on a segment, should a check be slow or its process freeze:
/// the server then ends the statement or the connection.
const HOLD_MAX: Duration = Duration::from_secs(1);
/// SQLSTATE of a lock that was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A segment as the server finds it.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct StoredSegment {
    pub(crate) segment: i16,
    /// Bytes of the rows alone; 0 when no row was written since the last truncation.
    pub(crate) heap_bytes: i64,
    /// Bytes of rows, index and large values.
    pub(crate) bytes: i64,
    /// By the server's statistics; `None` before there are any.
    pub(crate) rows_estimate: Option<i64>,
    /// Seconds of the epoch when it was last known to be empty.
    pub(crate) emptied_at: i64,
    /// Seconds of the epoch by the server's clock, rounded as the default of `outbox.event.segment` is.
    pub(crate) now: i64,
}

pub(crate) async fn load_segments(connection: &mut PgConnection) -> Result<Vec<StoredSegment>, sqlx::Error> {
    sqlx::query_as(
        "select s.segment,
                pg_relation_size(c.oid) as heap_bytes,
                pg_total_relation_size(c.oid) as bytes,
                case when pg_relation_size(c.oid) = 0 then 0
                     -- As the planner reckons: rows of a page when last counted, times the pages of now.
                     when c.reltuples >= 0 and c.relpages > 0
                     then (c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int))::bigint
                end as rows_estimate,
                extract(epoch from s.emptied_at)::bigint as emptied_at,
                extract(epoch from statement_timestamp())::bigint as now
           from outbox.segment s
           join pg_class c on c.oid = to_regclass('outbox.event_' || s.segment)
          order by s.segment",
    )
    .fetch_all(connection)
    .await
}

/// Records that a segment is empty now.
pub(crate) async fn mark_emptied(connection: &mut PgConnection, segment: i16) -> Result<(), sqlx::Error> {
    sqlx::query("update outbox.segment set emptied_at = clock_timestamp() where segment = $1")
        .bind(segment)
        .execute(connection)
        .await?;
    Ok(())
}

/// What the positions say about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Need {
    /// Whether they speak of this server's transactions at all.
    pub(crate) is_trusted: bool,
    /// Whether a row is not visible in the position of its shard. A window that is published in part counts as not
    /// published.
    pub(crate) is_unpublished: bool,
}

/// Asks two ranges of the index for each shard, as a window does: transactions that began after the position, and those
/// that ran in it. So neither many published rows nor a transaction that stays open make it slow.
pub(crate) async fn load_need(connection: &mut PgConnection, segment: i16) -> Result<Need, sqlx::Error> {
    sqlx::query_as(
        "select not pg_is_in_recovery()
                and (select count(*) = $2
                            and bool_and(system_identifier = (select system_identifier from pg_control_system())
                                         and pg_snapshot_xmax(position) <= pg_snapshot_xmax(pg_current_snapshot()))
                       from outbox.shard) as is_trusted,
                exists (select
                          from outbox.shard s
                         cross join lateral (
                               (select 1 from outbox.event e
                                 where e.segment = $1 and e.shard = s.shard
                                   and e.txid >= pg_snapshot_xmax(s.position)
                                 limit 1)
                               union all
                               (select 1 from outbox.event e
                                 where e.segment = $1 and e.shard = s.shard
                                   and e.txid = any (array(select pg_snapshot_xip(s.position)))
                                 limit 1)) as behind) as is_unpublished",
    )
    .bind(segment)
    .bind(i64::from(SHARDS))
    .fetch_one(connection)
    .await
}

/// How an attempt to truncate has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Truncated,
    /// A transaction holds the segment.
    Locked,
    /// Another process is truncating.
    Elsewhere,
    /// The positions, read under the lock, forbid it.
    Kept(Kept),
}

/// Truncates a segment if the positions allow it once nobody else holds it.
pub(crate) async fn truncate_segment(
    connection: &mut PgConnection,
    segment: i16,
    lock_timeout: Duration,
) -> Result<Attempt, sqlx::Error> {
    match lock_check_truncate(connection, segment, lock_timeout).await {
        Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) => Ok(Attempt::Locked),
        ended => ended,
    }
}

/// The check is a statement of its own that starts when the lock is held, and the transaction is `read committed`
/// whatever the database's default: only so does it see the rows of every transaction that held the segment before.
async fn lock_check_truncate(
    connection: &mut PgConnection,
    segment: i16,
    lock_timeout: Duration,
) -> Result<Attempt, sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("set local transaction isolation level read committed").execute(&mut *tx).await?;
    if !begin_alone(&mut tx, lock_timeout).await? {
        return Ok(Attempt::Elsewhere);
    }
    lock_segment(&mut tx, segment).await?;
    if let Some(reason) = decide_kept(load_need(&mut tx, segment).await?) {
        return Ok(Attempt::Kept(reason));
    }
    let truncate = AssertSqlSafe(format!("truncate outbox.event_{segment}"));
    sqlx::query(truncate).execute(&mut *tx).await?;
    mark_emptied(&mut tx, segment).await?;
    tx.commit().await?;
    Ok(Attempt::Truncated)
}

/// Bounds what the transaction may wait and hold, and answers whether no other process truncates.
async fn begin_alone(tx: &mut PgConnection, lock_timeout: Duration) -> Result<bool, sqlx::Error> {
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    sqlx::query_scalar(
        "select pg_try_advisory_xact_lock($1),
                set_config('lock_timeout', $2, true),
                set_config('statement_timeout', $3, true),
                set_config('idle_in_transaction_session_timeout', $4, true)",
    )
    .bind(LOCK_KEY)
    .bind(milliseconds(lock_timeout))
    .bind(milliseconds(lock_timeout + HOLD_MAX))
    .bind(milliseconds(HOLD_MAX))
    .fetch_one(tx)
    .await
}

async fn lock_segment(tx: &mut PgConnection, segment: i16) -> Result<(), sqlx::Error> {
    let lock = AssertSqlSafe(format!("lock table outbox.event_{segment} in access exclusive mode"));
    sqlx::query(lock).execute(tx).await?;
    Ok(())
}
