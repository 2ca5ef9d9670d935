//! Which events of a batch are new. Pure: what is stored comes in, what is to be stored goes out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use super::identity::BLOCK_EVENTS;

/// Bytes of a row's bits.
pub(crate) const BLOCK_BYTES: usize = 512;

/// The row of `inbox.event_handled` that holds an event's bit. Rows are locked in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Block {
    pub(crate) source: i16,
    pub(crate) lane: i16,
    pub(crate) number: i64,
}

/// The identity of an event with its interned source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Sequence { source: i16, lane: i16, sequence: i64 },
    Id(Uuid),
}

/// Bits of one block.
pub(crate) type Bits = [u8; BLOCK_BYTES];

/// The first record of each event in a batch.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Record index and place of its bit.
    sequences: Vec<(usize, Block, Bit)>,
    ids: Vec<(usize, Uuid)>,
    masks: BTreeMap<Block, Bits>,
    known_ids: HashSet<Uuid>,
    duplicates: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bit {
    byte: usize,
    mask: u8,
}

/// Which records are new, and the rows that remember it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Record indexes, ascending.
    pub(crate) fresh: Vec<usize>,
    pub(crate) duplicates: usize,
    /// Rows whose bits change, with all their bits, in the order of locking.
    pub(crate) changed: Vec<(Block, Bits)>,
}

impl Claims {
    /// Notes a record; a second record of one event is a duplicate.
    pub(crate) fn add(&mut self, index: usize, claim: Claim) {
        let is_first = match claim {
            Claim::Id(id) => {
                let is_first = self.known_ids.insert(id);
                if is_first {
                    self.ids.push((index, id));
                }
                is_first
            }
            Claim::Sequence { source, lane, sequence } => {
                let block = Block { source, lane, number: sequence.div_euclid(BLOCK_EVENTS) };
                let bit = bit(sequence);
                let byte = &mut self.masks.entry(block).or_insert([0; BLOCK_BYTES])[bit.byte];
                let is_first = *byte & bit.mask == 0;
                *byte |= bit.mask;
                if is_first {
                    self.sequences.push((index, block, bit));
                }
                is_first
            }
        };
        self.duplicates += usize::from(!is_first);
    }

    /// The rows that are needed, with the bits that the batch wants to set, in the order of locking.
    pub(crate) fn masks(&self) -> &BTreeMap<Block, Bits> {
        &self.masks
    }

    /// Every id, sorted.
    pub(crate) fn ids(&self) -> BTreeSet<Uuid> {
        self.ids.iter().map(|(_, id)| *id).collect()
    }

    /// Records whose event is new as far as is known, and whose block or id is `outside` of what is remembered.
    pub(crate) fn outside(
        &self,
        is_block_outside: impl Fn(&Block) -> bool,
        is_id_outside: impl Fn(&Uuid) -> bool,
    ) -> Vec<usize> {
        let sequences = self.sequences.iter().filter(|(_, block, _)| is_block_outside(block));
        let ids = self.ids.iter().filter(|(_, id)| is_id_outside(id));
        sequences.map(|(index, ..)| *index).chain(ids.map(|(index, _)| *index)).collect()
    }

    /// `stored` are the bits of every block that existed; `new_ids` those that were not handled before.
    pub(crate) fn settle(mut self, stored: &BTreeMap<Block, Bits>, new_ids: &HashSet<Uuid>) -> Settled {
        let is_set =
            |block: &Block, bit: Bit| stored.get(block).is_some_and(|bits| bits[bit.byte] & bit.mask != 0);
        let sequences =
            self.sequences.iter().filter(|(_, block, bit)| !is_set(block, *bit)).map(|(index, ..)| *index);
        let ids = self.ids.iter().filter(|(_, id)| new_ids.contains(id)).map(|(index, _)| *index);
        let mut fresh: Vec<usize> = sequences.chain(ids).collect();
        fresh.sort_unstable();
        let duplicates = self.duplicates + self.sequences.len() + self.ids.len() - fresh.len();
        let mut changed = Vec::new();
        for (block, bits) in stored {
            let Some(mut merged) = self.masks.remove(block) else { continue };
            for (byte, stored) in merged.iter_mut().zip(bits) {
                *byte |= *stored;
            }
            if merged != *bits {
                changed.push((*block, merged));
            }
        }
        Settled { fresh, duplicates, changed }
    }
}

/// The lowest bit of a byte comes first, as in PostgreSQL's `get_bit`.
fn bit(sequence: i64) -> Bit {
    let place = usize::try_from(sequence.rem_euclid(BLOCK_EVENTS)).expect("a remainder of 4,096 fits");
    Bit { byte: place / 8, mask: 1 << (place % 8) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> impl Strategy<Value = Claim> {
        prop_oneof![
            (0_i16..2, 0_i16..3, 0_i64..20_000).prop_map(|(source, lane, sequence)| Claim::Sequence {
                source,
                lane,
                sequence
            }),
            (0_i16..1, 0_i16..1, 0_i64..40).prop_map(|(source, lane, sequence)| Claim::Sequence {
                source,
                lane,
                sequence
            }),
            (0_u128..30).prop_map(|id| Claim::Id(Uuid::from_u128(id))),
        ]
    }

    fn key(claim: &Claim) -> String {
        format!("{claim:?}")
    }

    proptest! {
        #[test]
        fn masks_and_deduplication_equal_a_set_of_everything_seen(
            batches in prop::collection::vec(prop::collection::vec(claim(), 0..120), 1..6)
        ) {
            let mut seen: HashSet<String> = HashSet::new();
            let mut stored: BTreeMap<Block, Bits> = BTreeMap::new();
            let mut ids: HashSet<Uuid> = HashSet::new();
            for batch in batches {
                let expected: Vec<usize> =
                    batch.iter().enumerate().filter(|(_, claim)| seen.insert(key(claim))).map(|(index, _)| index).collect();
                let mut claims = Claims::default();
                for (index, claim) in batch.iter().enumerate() {
                    claims.add(index, *claim);
                }
                // As the store does: rows that are missing are inserted with the batch's bits and are not "stored".
                let wanted = claims.masks().clone();
                let new_ids: HashSet<Uuid> = claims.ids().into_iter().filter(|id| !ids.contains(id)).collect();
                let settled = claims.settle(&stored, &new_ids);
                prop_assert_eq!(&settled.fresh, &expected);
                prop_assert_eq!(settled.duplicates, batch.len() - expected.len());
                for (block, mask) in wanted {
                    stored.entry(block).or_insert(mask);
                }
                for (block, bits) in settled.changed {
                    stored.insert(block, bits);
                }
                ids.extend(new_ids);
                let bits: u32 = stored.values().flatten().map(|byte| byte.count_ones()).sum();
                prop_assert_eq!(usize::try_from(bits).unwrap() + ids.len(), seen.len());
            }
        }
    }

    #[test]
    fn blocks_meet_at_multiples_of_4096() {
        let mut claims = Claims::default();
        for (index, sequence) in [4_095, 4_096, 8_191].into_iter().enumerate() {
            claims.add(index, Claim::Sequence { source: 1, lane: 2, sequence });
        }
        let numbers: Vec<i64> = claims.masks().keys().map(|block| block.number).collect();
        assert_eq!(numbers, [0, 1]);
        assert_eq!(claims.masks()[&Block { source: 1, lane: 2, number: 0 }][511], 0x80);
        assert_eq!(claims.masks()[&Block { source: 1, lane: 2, number: 1 }][0], 0x01);
    }
}
