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

/// One event, the common case: half of what a row by arrays costs the server.
const INSERT_ONE: &str = "
    insert into outbox.event
           (shard, event_id, event_type, aggregate_type, aggregate_id, aggregate_version, topic, partition_key, payload,
            headers, traceparent, occurred_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// `txid`, `id` and the history come from the columns' defaults, evaluated row by row, so that ids follow the input's order:
/// arrays of one length side by side in the target list are read in step, from first to last. That way costs a third of
/// `from unnest(…) with ordinality order by`, for one event as for thousands.
const INSERT_MANY: &str = "
    insert into outbox.event
           (shard, event_id, event_type, aggregate_type, aggregate_id, aggregate_version, topic, partition_key, payload,
            headers, traceparent, occurred_at)
    select unnest($1::smallint[]), unnest($2::uuid[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]),
           unnest($6::bigint[]), unnest($7::text[]), unnest($8::text[]), unnest($9::bytea[]), unnest($10::bytea[]),
           unnest($11::text[]), unnest($12::timestamptz[])";

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

/// Inserts one event.
pub(crate) async fn insert_one(tx: &mut PgConnection, row: &Row<'_>) -> Result<(), sqlx::Error> {
    let event = row.event;
    let done = sqlx::query(INSERT_ONE)
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
        .await?;
    all_inserted(&done, 1)
}

/// Inserts events in this order.
pub(crate) async fn insert_many(tx: &mut PgConnection, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    fn column<'r, T>(rows: &'r [Row<'r>], of: impl Fn(&'r Row<'r>) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let done = sqlx::query(INSERT_MANY)
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
        .await?;
    all_inserted(&done, rows.len())
}

fn all_inserted(done: &PgQueryResult, events: usize) -> Result<(), sqlx::Error> {
    if usize::try_from(done.rows_affected()) == Ok(events) {
        Ok(())
    } else {
        Err(sqlx::Error::Protocol(format!("{} of {events} events were inserted", done.rows_affected())))
    }
}
