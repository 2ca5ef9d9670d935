//! `inbox.consumer_group` and `inbox.progress`: how far a group is in each partition.

use std::collections::BTreeMap;

use kafka_client::TopicPartition;
use sqlx::PgConnection;
use uuid::Uuid;

use super::handled::{Columns, decode_bits};
use crate::engine::claims::{Bits, Block};

/// The number of a group, or `None` before its first assignment.
pub(crate) async fn find_group(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<i16>, sqlx::Error> {
    sqlx::query_scalar("select id from inbox.consumer_group where name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// Adds a group unless another process just did.
pub(crate) async fn insert_group(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("insert into inbox.consumer_group (name) values ($1) on conflict do nothing")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) next_offset: i64,
    /// Why it is not read.
    pub(crate) halted: Option<String>,
    /// The topic whose offset it is.
    pub(crate) topic_id: Option<Uuid>,
}

/// Where a partition stands; `None` before its first assignment.
pub(crate) async fn find_offset(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
) -> Result<Option<Stored>, sqlx::Error> {
    sqlx::query_as(
        "select next_offset, halted, topic_id from inbox.progress
          where consumer_group = $1 and topic = $2 and partition = $3",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .fetch_optional(connection)
    .await
}

/// Begins a partition at `first`, unless another process just did.
pub(crate) async fn insert_progress(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    first: i64,
    topic_id: Option<Uuid>,
    owner: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into inbox.progress (consumer_group, topic, partition, next_offset, first_offset, topic_id, owner)
         values ($1, $2, $3, $4, $4, $5, $6) on conflict do nothing",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .bind(first)
    .bind(topic_id)
    .bind(owner)
    .execute(connection)
    .await?;
    Ok(())
}

/// Remembers the topic of an offset that has none.
pub(crate) async fn fill_topic_id(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    topic_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.progress set topic_id = $4
          where consumer_group = $1 and topic = $2 and partition = $3 and topic_id is null",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .bind(topic_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The stored offset; its row stays locked to the end of the transaction, so that owners of a partition follow each other.
/// If it is `expected`, or nothing is, with those of the blocks that exist, locked in the order in which they come: nobody who
/// is fenced waits for them.
pub(crate) async fn lock(
    tx: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    expected: Option<i64>,
    blocks: impl Iterator<Item = &Block>,
) -> Result<Option<(i64, BTreeMap<Block, Bits>)>, sqlx::Error> {
    let columns = Columns::of(blocks);
    let rows: Vec<Locked> = sqlx::query_as(
        "select found_offset, source_id, lane, block, bits from inbox.lock_batch($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .bind(expected)
    .bind(columns.sources)
    .bind(columns.lanes)
    .bind(columns.numbers)
    .fetch_all(tx)
    .await?;
    let Some(&Locked { found_offset, .. }) = rows.first() else { return Ok(None) };
    let mut blocks = BTreeMap::new();
    for row in rows {
        if let (Some(source), Some(lane), Some(number), Some(bits)) =
            (row.source_id, row.lane, row.block, row.bits)
        {
            blocks.insert(Block { source, lane, number }, decode_bits(number, bits)?);
        }
    }
    Ok(Some((found_offset, blocks)))
}

/// The stored offset beside one block, or none.
#[derive(sqlx::FromRow)]
struct Locked {
    found_offset: i64,
    source_id: Option<i16>,
    lane: Option<i16>,
    block: Option<i64>,
    bits: Option<Vec<u8>>,
}

/// A move of the stored offset with what became of the offsets in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Advance {
    pub(crate) expected: i64,
    pub(crate) next: i64,
    pub(crate) handled: i64,
    pub(crate) duplicates: i64,
    pub(crate) dead_lettered: i64,
    pub(crate) skipped: i64,
}

/// Writes the bits of locked blocks and moves the stored offset by compare-and-set. Answers how many blocks there were, or `None`
/// if the offset was not where it was expected; the caller then leaves the transaction.
pub(crate) async fn advance(
    tx: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    advance: &Advance,
    owner: &str,
    halted: Option<&str>,
    changed: &[(Block, Bits)],
) -> Result<Option<u64>, sqlx::Error> {
    let columns = Columns::with_bits(changed);
    let written: Option<i64> = sqlx::query_scalar(
        "update inbox.progress
            set next_offset = $5, handled = handled + $6, duplicates = duplicates + $7,
                dead_lettered = dead_lettered + $8, skipped = skipped + $9, owner = $10, halted = $11,
                updated_at = clock_timestamp()
          where consumer_group = $1 and topic = $2 and partition = $3 and next_offset = $4
         returning inbox.write_bits($1, $12, $13, $14, $15)",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .bind(advance.expected)
    .bind(advance.next)
    .bind(advance.handled)
    .bind(advance.duplicates)
    .bind(advance.dead_lettered)
    .bind(advance.skipped)
    .bind(owner)
    .bind(halted)
    .bind(columns.sources)
    .bind(columns.lanes)
    .bind(columns.numbers)
    .bind(columns.bits)
    .fetch_optional(tx)
    .await?;
    Ok(written.map(|rows| u64::try_from(rows).unwrap_or_default()))
}
