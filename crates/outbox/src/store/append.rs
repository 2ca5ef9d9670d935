//! Rows of `outbox.event`, written by column arrays.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::event::NewEvent;

/// The columns of a slice of events.
#[derive(Default)]
pub(crate) struct EventColumns<'a> {
    shards: Vec<i16>,
    event_ids: Vec<Uuid>,
    event_types: Vec<&'a str>,
    aggregate_types: Vec<&'a str>,
    aggregate_ids: Vec<&'a str>,
    aggregate_versions: Vec<Option<i64>>,
    topics: Vec<&'a str>,
    partition_keys: Vec<&'a str>,
    payloads: Vec<Option<&'a [u8]>>,
    headers: Vec<Option<Vec<u8>>>,
    traceparents: Vec<Option<&'a str>>,
    times: Vec<DateTime<Utc>>,
}

impl<'a> EventColumns<'a> {
    pub(crate) fn with_capacity(events: usize) -> Self {
        Self {
            shards: Vec::with_capacity(events),
            event_ids: Vec::with_capacity(events),
            event_types: Vec::with_capacity(events),
            aggregate_types: Vec::with_capacity(events),
            aggregate_ids: Vec::with_capacity(events),
            aggregate_versions: Vec::with_capacity(events),
            topics: Vec::with_capacity(events),
            partition_keys: Vec::with_capacity(events),
            payloads: Vec::with_capacity(events),
            headers: Vec::with_capacity(events),
            traceparents: Vec::with_capacity(events),
            times: Vec::with_capacity(events),
        }
    }

    pub(crate) fn push(&mut self, event: &'a NewEvent, shard: i16, headers: Option<Vec<u8>>) {
        self.shards.push(shard);
        self.event_ids.push(event.event_id);
        self.event_types.push(&event.event_type);
        self.aggregate_types.push(&event.aggregate_type);
        self.aggregate_ids.push(&event.aggregate_id);
        self.aggregate_versions.push(event.aggregate_version);
        self.topics.push(&event.topic);
        self.partition_keys.push(&event.partition_key);
        self.payloads.push(event.payload.as_deref());
        self.headers.push(headers);
        self.traceparents.push(event.traceparent.as_deref());
        self.times.push(event.occurred_at);
    }
}

/// `txid` and `id` come from the columns' defaults, evaluated row by row after the sort, so that ids follow the input's
/// order.
const INSERT: &str = "
    -- Materialized, so that the server is asked once in a statement.
    with history as materialized (select system_identifier, timeline from outbox.current_history())
    insert into outbox.event
           (shard, event_id, system_identifier, timeline, event_type, aggregate_type, aggregate_id, aggregate_version,
            topic, partition_key, payload, headers, traceparent, occurred_at)
    select e.shard, e.event_id, h.system_identifier, h.timeline, e.event_type, e.aggregate_type, e.aggregate_id,
           e.aggregate_version, e.topic, e.partition_key, e.payload, e.headers, e.traceparent, e.occurred_at
      from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
                  $8::text[], $9::bytea[], $10::bytea[], $11::text[], $12::timestamptz[])
           with ordinality
           as e (shard, event_id, event_type, aggregate_type, aggregate_id, aggregate_version, topic,
                 partition_key, payload, headers, traceparent, occurred_at, place)
     cross join history h
     order by e.place";

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

pub(crate) async fn insert_events(
    tx: &mut PgConnection,
    columns: EventColumns<'_>,
) -> Result<(), sqlx::Error> {
    let events = columns.shards.len();
    let done = sqlx::query(INSERT)
        .bind(columns.shards)
        .bind(columns.event_ids)
        .bind(columns.event_types)
        .bind(columns.aggregate_types)
        .bind(columns.aggregate_ids)
        .bind(columns.aggregate_versions)
        .bind(columns.topics)
        .bind(columns.partition_keys)
        .bind(columns.payloads)
        .bind(columns.headers)
        .bind(columns.traceparents)
        .bind(columns.times)
        .execute(tx)
        .await?;
    if usize::try_from(done.rows_affected()).ok() == Some(events) {
        Ok(())
    } else {
        Err(sqlx::Error::Protocol(format!("{} of {events} events were inserted", done.rows_affected())))
    }
}
