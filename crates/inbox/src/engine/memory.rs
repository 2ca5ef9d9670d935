//! What is remembered as handled, asked about and added to in a transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::claims::{Bits, Block, Claim, Claims, Settled};
use super::failure::{Failure, engine};
use super::identity::week;
use super::plan::{Identity, Rejection};
use crate::store::handled::{insert_blocks, insert_ids, lock_blocks, update_blocks};
use crate::store::window::{load_floor_week, load_floors};

/// What the memory of handled events says.
pub(crate) enum Marked {
    Settled(Settled),
    /// These records may have been handled before all that is remembered.
    Outside(Vec<usize>),
}

/// Why a record that [`Marked::Outside`] names becomes a dead letter.
pub(crate) fn outside() -> Rejection {
    let error = "its identity is older than what inbox.event_handled remembers: it may have been handled";
    Rejection::new("outside_dedup_window", error)
}

/// The memory of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory<'a> {
    pub(crate) group: i16,
    /// Numbers of the plan's sources.
    pub(crate) sources: &'a [i16],
}

impl Memory<'_> {
    /// What the records ask for.
    pub(crate) fn claims(&self, records: impl Iterator<Item = (usize, Identity)>) -> Claims {
        let mut claims = Claims::default();
        records.for_each(|(index, identity)| claims.add(index, self.claim(identity)));
        claims
    }

    /// The bits of the claims' blocks, which stay locked to the end of the transaction.
    pub(crate) async fn lock(
        &self,
        tx: &mut PgConnection,
        claims: &Claims,
    ) -> Result<BTreeMap<Block, Bits>, Failure> {
        lock_blocks(tx, self.group, claims.masks().keys()).await.map_err(engine("read bits"))
    }

    /// Answers which of the records carry events that are new. `locked`: all blocks of the claims that exist. Blocks that do not
    /// are added, and so are ids; bits that change are the caller's to write.
    pub(crate) async fn settle(
        &self,
        tx: &mut PgConnection,
        claims: Claims,
        mut locked: BTreeMap<Block, Bits>,
    ) -> Result<Marked, Failure> {
        let inserted = self.insert_missing(tx, &claims, &mut locked).await?;
        let ids = claims.ids();
        let new_ids = if ids.is_empty() {
            HashSet::new()
        } else {
            insert_ids(tx, self.group, &ids).await.map_err(engine("insert ids"))?
        };
        let outside = self.outside(tx, &claims, &inserted, &new_ids).await?;
        if !outside.is_empty() {
            return Ok(Marked::Outside(outside));
        }
        Ok(Marked::Settled(claims.settle(&locked, &new_ids)))
    }

    /// Writes the bits of locked blocks.
    pub(crate) async fn remember(
        &self,
        tx: &mut PgConnection,
        changed: &[(Block, Bits)],
    ) -> Result<(), Failure> {
        if changed.is_empty() {
            return Ok(());
        }
        let rows = update_blocks(tx, self.group, changed).await.map_err(engine("write bits"))?;
        all_written(rows, changed.len())
    }

    /// Adds blocks with the bits of `claims`; those that somebody else has just added are locked.
    async fn insert_missing(
        &self,
        tx: &mut PgConnection,
        claims: &Claims,
        locked: &mut BTreeMap<Block, Bits>,
    ) -> Result<HashSet<Block>, Failure> {
        let masks = claims.masks();
        let missing = masks.iter().filter(|(block, _)| !locked.contains_key(*block));
        let missing: Vec<(Block, Bits)> = missing.map(|(block, bits)| (*block, *bits)).collect();
        if missing.is_empty() {
            return Ok(HashSet::new());
        }
        let inserted = insert_blocks(tx, self.group, &missing).await.map_err(engine("insert bits"))?;
        let taken: Vec<Block> =
            missing.into_iter().map(|(block, _)| block).filter(|block| !inserted.contains(block)).collect();
        if !taken.is_empty() {
            let others = lock_blocks(tx, self.group, taken.iter()).await.map_err(engine("read bits"))?;
            locked.extend(others);
        }
        Ok(inserted)
    }

    /// Records that are not remembered and lie below a floor. Floors are looked at only where something was not remembered.
    async fn outside(
        &self,
        tx: &mut PgConnection,
        claims: &Claims,
        inserted: &HashSet<Block>,
        new_ids: &HashSet<Uuid>,
    ) -> Result<Vec<usize>, Failure> {
        let mut floors = HashMap::new();
        if !inserted.is_empty() {
            floors = load_floors(tx, self.group, self.sources).await.map_err(engine("read floors"))?;
        }
        let mut floor_week = None;
        if !new_ids.is_empty() {
            floor_week = load_floor_week(tx, self.group).await.map_err(engine("read floors"))?;
        }
        let is_forgotten = |week: i32| week >= 0 && floor_week.is_some_and(|floor| week < floor);
        Ok(claims.outside(
            |block| {
                inserted.contains(block)
                    && floors.get(&block.source).is_some_and(|floor| block.number < *floor)
            },
            |id| new_ids.contains(id) && is_forgotten(week(*id)),
        ))
    }

    fn claim(&self, identity: Identity) -> Claim {
        match identity {
            Identity::Id(id) => Claim::Id(id),
            Identity::Sequence { source, sequence, lane } => {
                Claim::Sequence { source: self.sources[source], lane, sequence }
            }
        }
    }
}

/// A locked row cannot be missing: that is a bug or a rule of the database's owner.
pub(crate) fn all_written(rows: u64, blocks: usize) -> Result<(), Failure> {
    if usize::try_from(rows) == Ok(blocks) {
        return Ok(());
    }
    let text = format!("{rows} of {blocks} locked rows of inbox.event_handled");
    Err(engine("write bits")(sqlx::Error::Protocol(text)))
}
