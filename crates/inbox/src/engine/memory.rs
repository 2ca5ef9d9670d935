//! What is remembered as handled, asked about and added to in a transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::claims::{Block, Claim, Claims, Settled};
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
    /// Answers which of the records carry events that are new, and remembers them.
    pub(crate) async fn settle(
        &self,
        tx: &mut PgConnection,
        records: impl Iterator<Item = (usize, Identity)>,
    ) -> Result<Marked, Failure> {
        let mut claims = Claims::default();
        records.for_each(|(index, identity)| claims.add(index, self.claim(identity)));
        let mut stored = BTreeMap::new();
        let mut inserted = HashSet::new();
        if !claims.masks().is_empty() {
            (stored, inserted) = self.read_blocks(tx, &claims).await?;
        }
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
        let settled = claims.settle(&stored, &new_ids);
        if !settled.changed.is_empty() {
            let rows = update_blocks(tx, self.group, &settled.changed).await.map_err(engine("write bits"))?;
            if usize::try_from(rows) != Ok(settled.changed.len()) {
                let text = format!("{rows} of {} locked rows of inbox.event_handled", settled.changed.len());
                return Err(engine("write bits")(sqlx::Error::Protocol(text)));
            }
        }
        Ok(Marked::Settled(settled))
    }

    /// Blocks that existed, with their bits, locked; and those that were added with the bits of `claims`.
    async fn read_blocks(
        &self,
        tx: &mut PgConnection,
        claims: &Claims,
    ) -> Result<(BTreeMap<Block, [u8; super::claims::BLOCK_BYTES]>, HashSet<Block>), Failure> {
        let masks = claims.masks();
        let mut stored = lock_blocks(tx, self.group, masks.keys()).await.map_err(engine("read bits"))?;
        let is_missing = |block: &&Block| !stored.contains_key(*block);
        let missing: Vec<Block> = masks.keys().filter(is_missing).copied().collect();
        if missing.is_empty() {
            return Ok((stored, HashSet::new()));
        }
        let rows: Vec<_> = missing.iter().map(|block| (*block, masks[block])).collect();
        let inserted = insert_blocks(tx, self.group, &rows).await.map_err(engine("insert bits"))?;
        let taken: Vec<Block> = missing.into_iter().filter(|block| !inserted.contains(block)).collect();
        if !taken.is_empty() {
            let others = lock_blocks(tx, self.group, taken.iter()).await.map_err(engine("read bits"))?;
            stored.extend(others);
        }
        Ok((stored, inserted))
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
