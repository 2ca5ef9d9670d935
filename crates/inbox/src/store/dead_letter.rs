//! `inbox.dead_letter`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// A dead letter as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) consumer_group: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    /// Length of the value before it was cut.
    pub(crate) value_bytes: Option<i64>,
    pub(crate) headers: serde_json::Value,
    pub(crate) record_timestamp: Option<i64>,
    pub(crate) record_timestamp_type: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) reason: String,
    pub(crate) fingerprint: String,
    pub(crate) error: String,
    pub(crate) traceparent: Option<String>,
    /// The first letter of the same event, if this one was redriven before.
    pub(crate) first_id: Option<Uuid>,
    /// How often the event was redriven.
    pub(crate) redrive_count: i32,
    /// What the row lacks of the record; such a letter cannot be redriven.
    pub(crate) lacks: Option<String>,
}

/// Columns of a [`Row`].
macro_rules! row_columns {
    () => {
        "id, consumer_group, topic, partition, \"offset\", key, value, value_bytes, headers, record_timestamp,
         record_timestamp_type, event_id, event_type, reason, fingerprint, error, traceparent, first_id, redrive_count,
         lacks"
    };
}
pub(crate) use row_columns;

/// A dead letter to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewLetter {
    pub(crate) row: Row,
    /// Of its key, if letters of a key have an order.
    pub(crate) key_digest: Option<Uuid>,
    /// Whether it waits behind another.
    pub(crate) is_waiting: bool,
}

#[derive(Debug, Default)]
struct Columns {
    ids: Vec<Uuid>,
    groups: Vec<String>,
    topics: Vec<String>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    keys: Vec<Option<Vec<u8>>>,
    values: Vec<Option<Vec<u8>>>,
    value_bytes: Vec<Option<i64>>,
    headers: Vec<serde_json::Value>,
    timestamps: Vec<Option<i64>>,
    timestamp_types: Vec<Option<String>>,
    event_ids: Vec<Option<String>>,
    event_types: Vec<Option<String>>,
    reasons: Vec<String>,
    fingerprints: Vec<String>,
    errors: Vec<String>,
    traceparents: Vec<Option<String>>,
    first_ids: Vec<Option<Uuid>>,
    redrive_counts: Vec<i32>,
    lacks: Vec<Option<String>>,
    key_digests: Vec<Option<Uuid>>,
    are_waiting: Vec<bool>,
}

impl Columns {
    fn push(&mut self, NewLetter { row, key_digest, is_waiting }: NewLetter) {
        self.ids.push(row.id);
        self.groups.push(row.consumer_group);
        self.topics.push(row.topic);
        self.partitions.push(row.partition);
        self.offsets.push(row.offset);
        self.keys.push(row.key);
        self.values.push(row.value);
        self.value_bytes.push(row.value_bytes);
        self.headers.push(row.headers);
        self.timestamps.push(row.record_timestamp);
        self.timestamp_types.push(row.record_timestamp_type);
        self.event_ids.push(row.event_id);
        self.event_types.push(row.event_type);
        self.reasons.push(row.reason);
        self.fingerprints.push(row.fingerprint);
        self.errors.push(row.error);
        self.traceparents.push(row.traceparent);
        self.first_ids.push(row.first_id);
        self.redrive_counts.push(row.redrive_count);
        self.lacks.push(row.lacks);
        self.key_digests.push(key_digest);
        self.are_waiting.push(is_waiting);
    }
}

/// Stores dead letters. The same origin again (an offset that was moved back by hand) counts as another attempt, and a
/// letter that has a turn gets another: whatever became of it, it is met again in the order of its key.
pub(crate) async fn insert_dead_letters(
    tx: &mut PgConnection,
    letters: Vec<NewLetter>,
) -> Result<(), sqlx::Error> {
    let mut columns = Columns::default();
    letters.into_iter().for_each(|letter| columns.push(letter));
    sqlx::query(
        r#"insert into inbox.dead_letter
               (id, consumer_group, topic, partition, "offset", key, value, value_bytes, headers, record_timestamp,
                record_timestamp_type, event_id, event_type, reason, fingerprint, error, traceparent, first_id,
                redrive_count, lacks, key_digest, turn, status)
           select id, consumer_group, topic, partition, "offset", key, value, value_bytes, headers, record_timestamp,
                  record_timestamp_type, event_id, event_type, reason, fingerprint, error, traceparent, first_id,
                  redrive_count, lacks, key_digest,
                  case when key_digest is not null then nextval('inbox.dead_letter_turn') end,
                  case when is_waiting then 'blocked' else 'new' end
             from (select *
                     from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::bytea[], $7::bytea[],
                                 $8::bigint[], $9::jsonb[], $10::bigint[], $11::text[], $12::text[], $13::text[],
                                 $14::text[], $15::text[], $16::text[], $17::text[], $18::uuid[], $19::integer[],
                                 $20::text[], $21::uuid[], $22::boolean[])
                          with ordinality as letter (id, consumer_group, topic, partition, "offset", key, value,
                                 value_bytes, headers, record_timestamp, record_timestamp_type, event_id, event_type,
                                 reason, fingerprint, error, traceparent, first_id, redrive_count, lacks, key_digest,
                                 is_waiting, place)
                    order by place) letter
           on conflict (id) do update
               set attempts = dead_letter.attempts + 1, last_seen = clock_timestamp(),
                   key_digest = coalesce(excluded.key_digest, dead_letter.key_digest),
                   turn = coalesce(excluded.turn, dead_letter.turn),
                   status = case when excluded.turn is null then dead_letter.status else excluded.status end"#,
    )
    .bind(columns.ids)
    .bind(columns.groups)
    .bind(columns.topics)
    .bind(columns.partitions)
    .bind(columns.offsets)
    .bind(columns.keys)
    .bind(columns.values)
    .bind(columns.value_bytes)
    .bind(columns.headers)
    .bind(columns.timestamps)
    .bind(columns.timestamp_types)
    .bind(columns.event_ids)
    .bind(columns.event_types)
    .bind(columns.reasons)
    .bind(columns.fingerprints)
    .bind(columns.errors)
    .bind(columns.traceparents)
    .bind(columns.first_ids)
    .bind(columns.redrive_counts)
    .bind(columns.lacks)
    .bind(columns.key_digests)
    .bind(columns.are_waiting)
    .execute(tx)
    .await?;
    Ok(())
}

/// A place in the order in which dead letters are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) first_seen: DateTime<Utc>,
    pub(crate) id: Uuid,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { first_seen: DateTime::UNIX_EPOCH, id: Uuid::nil() }
    }
}

/// A dead letter to be published.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Unpublished {
    pub(crate) first_seen: DateTime<Utc>,
    #[sqlx(flatten)]
    pub(crate) row: Row,
}

/// Makes the caller the only publisher of a group's dead letters until the end of the transaction; answers whether he is.
/// The rows themselves stay free, so that operators can act on letters whose topic does not answer.
pub(crate) async fn lock_publishing(tx: &mut PgConnection, group: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('inbox.dead_letter/' || $1, 0))")
        .bind(group)
        .fetch_one(tx)
        .await
}

/// The next unpublished dead letters of a group after `cursor`, oldest first.
pub(crate) async fn list_unpublished(
    tx: &mut PgConnection,
    group: &str,
    cursor: Cursor,
    limit: i64,
) -> Result<Vec<Unpublished>, sqlx::Error> {
    sqlx::query_as(concat!(
        "select first_seen, ",
        row_columns!(),
        " from inbox.dead_letter
          where status = 'new' and consumer_group = $1 and (first_seen, id) > ($2, $3)
          order by first_seen, id
          limit $4",
    ))
    .bind(group)
    .bind(cursor.first_seen)
    .bind(cursor.id)
    .bind(limit)
    .fetch_all(tx)
    .await
}

/// Dead letters that the broker has acknowledged; one that an operator dealt with meanwhile keeps its status.
pub(crate) async fn mark_published(tx: &mut PgConnection, ids: &[Uuid]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update inbox.dead_letter set status = 'published' where id = any($1) and status = 'new'",
    )
    .bind(ids)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
