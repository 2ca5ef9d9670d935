//! What every batch does, in two messages around its effect: one begins the transaction and locks, one writes and commits.
//!
//! The statements are prepared once for a session and executed by name, so that neither a plan nor a round trip of its own is paid for
//! each (docs/adr/0014). Their plans hold for all values, and never read a whole table: both is set for them alone, as a projection's
//! statements are planned for the values at hand.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use futures_util::TryStreamExt as _;
use kafka_client::TopicPartition;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row as _};

use super::handled::{Columns, decode_bits};
use super::literal::{ByteArrays, Bytes, Number, Numbers, Text};
use crate::engine::claims::{Bits, Block};

/// Prepares a session. Blocks that are written exist and are locked; an upsert has the simplest plan that writes them by their keys.
const PREPARE: &str = "
    prepare inbox_lock_offset(smallint, text, integer) as
        select next_offset, halted from inbox.progress
         where consumer_group = $1 and topic = $2 and partition = $3 for update;
    prepare inbox_lock_block(smallint, smallint, smallint, bigint) as
        select source_id, lane, block, bits from inbox.event_handled
         where consumer_group = $1 and source_id = $2 and lane = $3 and block = $4 for update;
    prepare inbox_move_offset(smallint, text, integer, bigint, bigint, bigint, bigint, bigint, bigint, text, text) as
        update inbox.progress
           set next_offset = $5, handled = handled + $6, duplicates = duplicates + $7, dead_lettered = dead_lettered + $8,
               skipped = skipped + $9, owner = $10, halted = $11, updated_at = clock_timestamp()
         where consumer_group = $1 and topic = $2 and partition = $3
           and case when next_offset = $4 then true else inbox.refuse_move($2, $3, next_offset, $4) end;
    prepare inbox_write_block(smallint, smallint, smallint, bigint, bytea) as
        insert into inbox.event_handled (consumer_group, source_id, lane, block, bits) values ($1, $2, $3, $4, $5)
        on conflict (consumer_group, source_id, lane, block) do update set bits = excluded.bits;
    prepare inbox_write_blocks(smallint, smallint[], smallint[], bigint[], bytea[]) as
        insert into inbox.event_handled (consumer_group, source_id, lane, block, bits)
        select $1, unnest($2), unnest($3), unnest($4), unnest($5)
        on conflict (consumer_group, source_id, lane, block) do update set bits = excluded.bits";

/// One plan for all values, and by an index, however small a table was when the plan was made.
const PLAN_ONCE: [&str; 2] =
    ["set local plan_cache_mode = force_generic_plan", "set local enable_seqscan = off"];
/// As the session was opened.
const PLAN_AS_BEFORE: [&str; 2] =
    ["set local plan_cache_mode to default", "set local enable_seqscan to default"];

/// So many blocks have a statement each; more are locked, and written, by one for all. Up to here that costs more (30 µs of the server
/// for each, 60 and more for one for all).
const SINGLE_BLOCKS_MAX: usize = 3;

/// Prepares a session for [`begin_and_lock`] and [`finish_and_commit`].
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(PREPARE).execute(connection).await?;
    Ok(())
}

/// A message of several statements, which takes no parameters.
struct Message {
    text: String,
    statements: usize,
}

impl Message {
    fn new() -> Self {
        Self { text: String::new(), statements: 0 }
    }

    fn add(&mut self, statement: impl Display) {
        let separator = if self.statements == 0 { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(self.text, "{separator}{statement}");
        self.statements += 1;
    }

    fn plan_once(&mut self) {
        PLAN_ONCE.iter().for_each(|statement| self.add(statement));
    }
}

/// Where a partition is, as its row says.
#[derive(Debug, FromRow)]
pub(crate) struct Place {
    pub(crate) next_offset: i64,
    /// Why it is not to be read on.
    pub(crate) halted: Option<String>,
}

/// Begins a transaction, and asks for the partition's place; its row stays locked to the end of the transaction, so that owners of a
/// partition follow each other. With those of the blocks that exist, locked in the order in which they come. `None` before a partition's
/// first assignment. One message.
pub(crate) async fn begin_and_lock(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    blocks: impl Iterator<Item = &Block>,
) -> Result<Option<(Place, BTreeMap<Block, Bits>)>, sqlx::Error> {
    let TopicPartition { topic, partition } = origin;
    let topic = Text(Some(topic));
    let mut message = Message::new();
    message.add("begin isolation level read committed");
    message.plan_once();
    message.add(format_args!("execute inbox_lock_offset({group}, {topic}, {partition})"));
    let Columns { sources, lanes, numbers, .. } = Columns::of(blocks);
    if numbers.len() <= SINGLE_BLOCKS_MAX {
        for ((source, lane), number) in sources.iter().zip(lanes).zip(numbers) {
            let number = Number(Some(number));
            message.add(format_args!("execute inbox_lock_block({group}, '{source}', '{lane}', {number})"));
        }
    } else {
        let (sources, lanes, numbers) = (Numbers(&sources), Numbers(&lanes), Numbers(&numbers));
        message.add(format_args!(
            "select source_id, lane, block, bits from inbox.lock_blocks({group}::smallint, {sources}, {lanes}, {numbers})"
        ));
    }
    PLAN_AS_BEFORE.iter().for_each(|statement| message.add(statement));
    let rows = sqlx::raw_sql(AssertSqlSafe(message.text)).fetch_all(connection).await?;
    let mut found = None;
    let mut locked = BTreeMap::new();
    for row in &rows {
        // A block's row has more columns.
        if row.len() == 2 {
            found = Some(Place::from_row(row)?);
        } else {
            let (source, lane, number, bits) = FromRow::from_row(row)?;
            locked.insert(Block { source, lane, number }, decode_bits(number, bits)?);
        }
    }
    Ok(found.map(|place| (place, locked)))
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

/// Moves the stored offset by compare-and-set, writes the bits of locked blocks, and commits. One message.
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
    let mut message = Message::new();
    if advance.dead_lettered > 0 || halted.is_some() {
        message.add("set local synchronous_commit to default");
    }
    message.plan_once();
    move_offset(&mut message, group, origin, advance, owner, halted);
    write_blocks(&mut message, group, changed);
    let commit = message.statements;
    message.add("commit");
    let mut answers = sqlx::raw_sql(AssertSqlSafe(message.text)).fetch_many(connection);
    // Statements that are done.
    let mut done = 0;
    loop {
        match answers.try_next().await {
            Ok(Some(answer)) => done += usize::from(answer.is_left()),
            Ok(None) => return Ok(()),
            Err(error) if done < commit && has_code(&error, OFFSET_MOVED) => return Err(Unfinished::Moved),
            Err(error) if done < commit && error.as_database_error().is_some() => {
                return Err(Unfinished::Before(error));
            }
            Err(error) => return Err(Unfinished::Commit(error)),
        }
    }
}

fn move_offset(
    message: &mut Message,
    group: i16,
    origin: &TopicPartition,
    advance: &Advance,
    owner: &str,
    halted: Option<&str>,
) {
    let Advance { expected, next, handled, duplicates, dead_lettered, skipped } = *advance;
    let [expected, next] = [expected, next].map(|offset| Number(Some(offset)));
    let [handled, duplicates, dead_lettered, skipped] =
        [handled, duplicates, dead_lettered, skipped].map(|count| Number(Some(count)));
    let TopicPartition { topic, partition } = origin;
    let (topic, owner, halted) = (Text(Some(topic)), Text(Some(owner)), Text(halted));
    message.add(format_args!(
        "execute inbox_move_offset({group}, {topic}, {partition}, {expected}, {next}, {handled}, {duplicates}, {dead_lettered},
                                   {skipped}, {owner}, {halted})"
    ));
}

fn write_blocks(message: &mut Message, group: i16, changed: &[(Block, Bits)]) {
    if changed.len() <= SINGLE_BLOCKS_MAX {
        for (Block { source, lane, number }, bits) in changed {
            let (number, bits) = (Number(Some(*number)), Bytes(bits));
            message.add(format_args!(
                "execute inbox_write_block({group}, '{source}', '{lane}', {number}, {bits})"
            ));
        }
        return;
    }
    let Columns { sources, lanes, numbers, bits } = Columns::with_bits(changed);
    message.add(format_args!(
        "execute inbox_write_blocks({group}, {sources}, {lanes}, {numbers}, {bits})",
        sources = Numbers(&sources),
        lanes = Numbers(&lanes),
        numbers = Numbers(&numbers),
        bits = ByteArrays(&bits),
    ));
}

/// What `inbox.refuse_move` fails with: the offset is not where it was expected.
const OFFSET_MOVED: &str = "IB001";

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    let answered = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    answered.is_some_and(|found| found == code)
}
