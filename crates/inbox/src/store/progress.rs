//! `inbox.consumer_group` and `inbox.progress`: how far a group is in each partition.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use kafka_client::TopicPartition;
use sqlx::{AssertSqlSafe, FromRow as _, PgConnection};
use uuid::Uuid;

use super::handled::{Columns, decode_bits};
use super::literal::{ByteArrays, Number, Numbers, Text};
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

/// Begins a transaction, and asks for the stored offset; its row stays locked to the end of the transaction, so that owners of a
/// partition follow each other. If it is `expected`, or nothing is, with those of the blocks that exist, locked in the order in
/// which they come: nobody who is fenced waits for them. One message.
pub(crate) async fn begin_and_lock(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    expected: Option<i64>,
    blocks: impl Iterator<Item = &Block>,
) -> Result<Option<(i64, BTreeMap<Block, Bits>)>, sqlx::Error> {
    let columns = Columns::of(blocks);
    let statements = format!(
        "begin isolation level read committed;
         select found_offset, source_id, lane, block, bits
           from inbox.lock_batch({group}::smallint, {topic}, {partition}, {expected}, {sources}, {lanes}, {numbers})",
        topic = Text(Some(&origin.topic)),
        partition = origin.partition,
        expected = Number(expected),
        sources = Numbers(&columns.sources),
        lanes = Numbers(&columns.lanes),
        numbers = Numbers(&columns.numbers),
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(connection).await?;
    let mut found = None;
    let mut blocks = BTreeMap::new();
    for row in &rows {
        let row = Locked::from_row(row)?;
        found = Some(row.found_offset);
        if let (Some(source), Some(lane), Some(number), Some(bits)) =
            (row.source_id, row.lane, row.block, row.bits)
        {
            blocks.insert(Block { source, lane, number }, decode_bits(number, bits)?);
        }
    }
    Ok(found.map(|offset| (offset, blocks)))
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

/// Why a batch was not finished.
pub(crate) enum Unfinished {
    /// The offset was not where it was expected; nothing is committed.
    Moved,
    /// The database failed before the commit.
    Before(sqlx::Error),
    /// The commit failed, or whether it was reached is not known.
    Commit(sqlx::Error),
}

/// Writes the bits of locked blocks, moves the stored offset by compare-and-set, and commits. One message.
///
/// A commit that others hear of waits for the disk, whatever the session's do: letters are published, and a halt calls an operator.
pub(crate) async fn finish_and_commit(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    advance: &Advance,
    owner: &str,
    halted: Option<&str>,
    changed: &[(Block, Bits)],
) -> Result<(), Unfinished> {
    let columns = Columns::with_bits(changed);
    let is_told = advance.dead_lettered > 0 || halted.is_some();
    let statements = format!(
        "{durable}select inbox.finish_batch({group}::smallint, {topic}, {partition}, {expected}, {next}, {handled}, {duplicates},
                {dead_lettered}, {skipped}, {owner}, {halted}, {sources}, {lanes}, {numbers}, {bits});
         commit",
        durable = if is_told { "set local synchronous_commit to default; " } else { "" },
        topic = Text(Some(&origin.topic)),
        partition = origin.partition,
        expected = Number(Some(advance.expected)),
        next = Number(Some(advance.next)),
        handled = Number(Some(advance.handled)),
        duplicates = Number(Some(advance.duplicates)),
        dead_lettered = Number(Some(advance.dead_lettered)),
        skipped = Number(Some(advance.skipped)),
        owner = Text(Some(owner)),
        halted = Text(halted),
        sources = Numbers(&columns.sources),
        lanes = Numbers(&columns.lanes),
        numbers = Numbers(&columns.numbers),
        bits = ByteArrays(&columns.bits),
    );
    let mut answers = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_many(connection);
    let mut is_written = false;
    loop {
        match answers.try_next().await {
            // The one row of the one query.
            Ok(Some(answer)) => is_written |= answer.is_right(),
            Ok(None) => return Ok(()),
            Err(error) if !is_written && has_code(&error, OFFSET_MOVED) => return Err(Unfinished::Moved),
            Err(error) if !is_written && error.as_database_error().is_some() => {
                return Err(Unfinished::Before(error));
            }
            Err(error) => return Err(Unfinished::Commit(error)),
        }
    }
}

/// What `inbox.finish_batch` answers when the offset is not where it was expected.
const OFFSET_MOVED: &str = "IB001";

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    let answered = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    answered.is_some_and(|found| found == code)
}
