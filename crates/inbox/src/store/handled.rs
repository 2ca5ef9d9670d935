//! `inbox.event_handled` and `inbox.event_handled_id`: which events were handled.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::engine::claims::{BLOCK_BYTES, Bits, Block};
use crate::engine::identity::{BLOCK_EVENTS, week};

/// Blocks as columns, one array each.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) sources: Vec<i16>,
    pub(crate) lanes: Vec<i16>,
    pub(crate) numbers: Vec<i64>,
    pub(crate) bits: Vec<Vec<u8>>,
}

impl Columns {
    /// Keys only.
    pub(crate) fn of<'a>(blocks: impl Iterator<Item = &'a Block>) -> Self {
        let mut columns = Self::default();
        blocks.for_each(|block| columns.push(block));
        columns
    }

    pub(crate) fn with_bits(blocks: &[(Block, Bits)]) -> Self {
        let mut columns = Self::default();
        for (block, bits) in blocks {
            columns.push(block);
            columns.bits.push(bits.to_vec());
        }
        columns
    }

    fn push(&mut self, block: &Block) {
        self.sources.push(block.source);
        self.lanes.push(block.lane);
        self.numbers.push(block.number);
    }
}

/// Bits as they are stored.
pub(crate) fn decode_bits(number: i64, bits: Vec<u8>) -> Result<Bits, sqlx::Error> {
    bits.try_into().map_err(|bits: Vec<u8>| {
        let length = bits.len();
        let text =
            format!("inbox.event_handled.bits of block {number} has {length} bytes, not {BLOCK_BYTES}");
        sqlx::Error::Decode(text.into())
    })
}

/// Reads blocks and locks their rows in the order in which they come; blocks that do not exist are left out.
pub(crate) async fn lock_blocks(
    tx: &mut PgConnection,
    group: i16,
    blocks: impl Iterator<Item = &Block>,
) -> Result<BTreeMap<Block, Bits>, sqlx::Error> {
    let columns = Columns::of(blocks);
    let rows: Vec<(i16, i16, i64, Vec<u8>)> =
        sqlx::query_as("select source_id, lane, block, bits from inbox.lock_blocks($1, $2, $3, $4)")
            .bind(group)
            .bind(columns.sources)
            .bind(columns.lanes)
            .bind(columns.numbers)
            .fetch_all(tx)
            .await?;
    rows.into_iter()
        .map(|(source, lane, number, bits)| {
            let bits = decode_bits(number, bits)?;
            Ok((Block { source, lane, number }, bits))
        })
        .collect()
}

/// Adds blocks with their bits; answers those that were added, without those that another owner of the lane just added.
pub(crate) async fn insert_blocks(
    tx: &mut PgConnection,
    group: i16,
    blocks: &[(Block, Bits)],
) -> Result<HashSet<Block>, sqlx::Error> {
    let columns = Columns::with_bits(blocks);
    let rows: Vec<(i16, i16, i64)> = sqlx::query_as(
        "insert into inbox.event_handled (consumer_group, source_id, lane, block, bits)
         select $1, wanted.* from unnest($2::smallint[], $3::smallint[], $4::bigint[], $5::bytea[])
                as wanted (source_id, lane, block, bits)
          order by source_id, lane, block
         on conflict do nothing
         returning source_id, lane, block",
    )
    .bind(group)
    .bind(columns.sources)
    .bind(columns.lanes)
    .bind(columns.numbers)
    .bind(columns.bits)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|(source, lane, number)| Block { source, lane, number }).collect())
}

/// Writes the bits of locked blocks; answers how many rows there were.
pub(crate) async fn update_blocks(
    tx: &mut PgConnection,
    group: i16,
    blocks: &[(Block, Bits)],
) -> Result<u64, sqlx::Error> {
    let columns = Columns::with_bits(blocks);
    let written: i64 = sqlx::query_scalar("select inbox.write_bits($1, $2, $3, $4, $5)")
        .bind(group)
        .bind(columns.sources)
        .bind(columns.lanes)
        .bind(columns.numbers)
        .bind(columns.bits)
        .fetch_one(tx)
        .await?;
    Ok(u64::try_from(written).unwrap_or_default())
}

/// Remembers ids; answers those that were not known.
pub(crate) async fn insert_ids(
    tx: &mut PgConnection,
    group: i16,
    ids: &BTreeSet<Uuid>,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let weeks: Vec<i32> = ids.iter().map(|id| week(*id)).collect();
    let ids: Vec<Uuid> = ids.iter().copied().collect();
    let new: Vec<Uuid> = sqlx::query_scalar(
        "insert into inbox.event_handled_id (consumer_group, week, event_id)
         select $1, week, id from unnest($2::integer[], $3::uuid[]) as wanted (week, id) order by week, id
         on conflict do nothing
         returning event_id",
    )
    .bind(group)
    .bind(weeks)
    .bind(ids)
    .fetch_all(tx)
    .await?;
    Ok(new.into_iter().collect())
}

/// Whether a group has handled the event of this sequence.
pub(crate) async fn has_sequence(
    connection: &mut PgConnection,
    group: &str,
    source: &str,
    lane: i16,
    sequence: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (
             select from inbox.event_handled e
               join inbox.consumer_group g on g.id = e.consumer_group
               join inbox.source s on s.source_id = e.source_id
              where g.name = $1 and s.ce_source = $2 and e.lane = $3 and e.block = $4 and get_bit(e.bits, $5) = 1)",
    )
    .bind(group)
    .bind(source)
    .bind(lane)
    .bind(sequence.div_euclid(BLOCK_EVENTS))
    .bind(sequence.rem_euclid(BLOCK_EVENTS))
    .fetch_one(connection)
    .await
}

/// Whether a group has handled the event of this id.
pub(crate) async fn has_id(
    connection: &mut PgConnection,
    group: &str,
    id: Uuid,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (
             select from inbox.event_handled_id e
               join inbox.consumer_group g on g.id = e.consumer_group
              where g.name = $1 and e.week = $2 and e.event_id = $3)",
    )
    .bind(group)
    .bind(week(id))
    .bind(id)
    .fetch_one(connection)
    .await
}
