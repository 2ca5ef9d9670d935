//! Rows of `outbox.event`, as they are appended.

use sqlx::PgConnection;
use sqlx::postgres::PgQueryResult;

use crate::event::NewEvent;

/// An event as it is stored.
pub(crate) struct Row<'e> {
    pub(crate) event: &'e NewEvent,
    pub(crate) shard: i16,
    /// Encoded.
    pub(crate) headers: Option<Vec<u8>>,
}

/// One event, the common case: half of what a row by arrays costs the server. Inserts nothing in a session that has not learned the
/// server's history yet: to evaluate the columns' defaults, which learn it, costs a quarter of the whole.
const INSERT_ONE: &str = "
    insert into outbox.event
           (shard, event_id, event_type, aggregate_type, aggregate_id, aggregate_version, topic, partition_key, payload,
            headers, traceparent, occurred_at, system_identifier, timeline)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
           current_setting('outbox.system_identifier', true)::bigint, current_setting('outbox.timeline', true)::integer
     where current_setting('outbox.timeline', true) <> ''";

/// The same of several. `txid` and `id` come from the columns' defaults, evaluated row by row, so that ids follow the input's order:
/// arrays of one length side by side in the target list are read in step, from first to last. That way costs a third of
/// `from unnest(…) with ordinality order by`, for one event as for thousands.
const INSERT_MANY: &str = "
    insert into outbox.event
           (shard, event_id, event_type, aggregate_type, aggregate_id, aggregate_version, topic, partition_key, payload,
            headers, traceparent, occurred_at, system_identifier, timeline)
    select unnest($1::smallint[]), unnest($2::uuid[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]),
           unnest($6::bigint[]), unnest($7::text[]), unnest($8::text[]), unnest($9::bytea[]), unnest($10::bytea[]),
           unnest($11::text[]), unnest($12::timestamptz[]),
           current_setting('outbox.system_identifier', true)::bigint, current_setting('outbox.timeline', true)::integer
     where current_setting('outbox.timeline', true) <> ''";

/// Class of the advisory locks of keys (`outb` in ASCII): the two-part locks of others cannot meet them, and one-part locks
/// are apart anyway.
const KEY_LOCK_CLASS: i32 = 0x6f75_7462;

/// Takes the locks of keys, in the order of the array.
pub(crate) async fn lock_keys(tx: &mut PgConnection, locks: Vec<i32>) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock($1, lock) from unnest($2::int[]) as key (lock)")
        .bind(KEY_LOCK_CLASS)
        .bind(locks)
        .execute(tx)
        .await?;
    Ok(())
}

/// Inserts events in this order.
pub(crate) async fn insert(tx: &mut PgConnection, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut inserted = try_to_insert(tx, rows).await?;
    if inserted == 0 {
        sqlx::query("select outbox.learn_history()").execute(&mut *tx).await?;
        inserted = try_to_insert(tx, rows).await?;
    }
    if usize::try_from(inserted) == Ok(rows.len()) {
        Ok(())
    } else {
        Err(sqlx::Error::Protocol(format!("{inserted} of {} events were inserted", rows.len())))
    }
}

/// Answers how many were inserted: none in a session that knows no history.
async fn try_to_insert(tx: &mut PgConnection, rows: &[Row<'_>]) -> Result<u64, sqlx::Error> {
    let done = match rows {
        [row] => insert_one(tx, row).await?,
        rows => insert_many(tx, rows).await?,
    };
    Ok(done.rows_affected())
}

async fn insert_one(tx: &mut PgConnection, row: &Row<'_>) -> Result<PgQueryResult, sqlx::Error> {
    let event = row.event;
    sqlx::query(INSERT_ONE)
        .bind(row.shard)
        .bind(event.event_id)
        .bind(&event.event_type)
        .bind(&event.aggregate_type)
        .bind(&event.aggregate_id)
        .bind(event.aggregate_version)
        .bind(&event.topic)
        .bind(&event.partition_key)
        .bind(event.payload.as_deref())
        .bind(row.headers.as_deref())
        .bind(event.traceparent.as_deref())
        .bind(event.occurred_at)
        .execute(tx)
        .await
}

async fn insert_many(tx: &mut PgConnection, rows: &[Row<'_>]) -> Result<PgQueryResult, sqlx::Error> {
    fn column<'r, T>(rows: &'r [Row<'r>], of: impl Fn(&'r Row<'r>) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    sqlx::query(INSERT_MANY)
        .bind(column(rows, |row| row.shard))
        .bind(column(rows, |row| row.event.event_id))
        .bind(column(rows, |row| &*row.event.event_type))
        .bind(column(rows, |row| &*row.event.aggregate_type))
        .bind(column(rows, |row| &*row.event.aggregate_id))
        .bind(column(rows, |row| row.event.aggregate_version))
        .bind(column(rows, |row| &*row.event.topic))
        .bind(column(rows, |row| &*row.event.partition_key))
        .bind(column(rows, |row| row.event.payload.as_deref()))
        .bind(column(rows, |row| row.headers.as_deref()))
        .bind(column(rows, |row| row.event.traceparent.as_deref()))
        .bind(column(rows, |row| row.event.occurred_at))
        .execute(tx)
        .await
}
