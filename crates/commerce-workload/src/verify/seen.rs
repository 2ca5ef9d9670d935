//! Which events of a topic were seen before: about one bit for each, whatever their number.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

/// Sequences in one block. Blocks, not one long bitmap: a forged sequence must not cost the memory up to it.
const BLOCK_BITS: u64 = 4_096;
/// Words of one block.
const BLOCK_WORDS: usize = 64;

/// What an event is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity<'a> {
    /// The number that its outbox gave it.
    Sequence { source: &'a str, sequence: u64 },
    /// Of a producer without numbers.
    Id(Uuid),
}

/// The events seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sources: HashMap<String, usize>,
    blocks: HashMap<(usize, u64), Box<[u64; BLOCK_WORDS]>>,
    ids: HashSet<Uuid>,
}

impl Seen {
    /// Marks the event; whether it is new.
    pub(super) fn mark(&mut self, identity: Identity<'_>) -> bool {
        let (source, sequence) = match identity {
            Identity::Id(id) => return self.ids.insert(id),
            Identity::Sequence { source, sequence } => (self.source(source), sequence),
        };
        let block =
            self.blocks.entry((source, sequence / BLOCK_BITS)).or_insert_with(|| Box::new([0; BLOCK_WORDS]));
        let place = sequence % BLOCK_BITS;
        let Some(word) = usize::try_from(place / 64).ok().and_then(|index| block.get_mut(index)) else {
            return false;
        };
        let bit = 1_u64 << (place % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn source(&mut self, name: &str) -> usize {
        if let Some(number) = self.sources.get(name) {
            return *number;
        }
        let number = self.sources.len();
        self.sources.insert(name.to_owned(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::{BLOCK_BITS, Identity, Seen};

    #[test]
    fn a_number_counts_once_for_each_source() {
        let mut seen = Seen::default();
        let mut mark = |source, sequence| seen.mark(Identity::Sequence { source, sequence });
        assert!(mark("a", 7));
        assert!(mark("b", 7));
        assert!(!mark("a", 7));
        assert!(mark("a", 7 + BLOCK_BITS));
        assert!(mark("a", u64::MAX));
        assert!(!mark("a", u64::MAX));
        assert_eq!(seen.blocks.len(), 4, "a forged number costs one block");
        assert!(seen.mark(Identity::Id(Uuid::nil())));
        assert!(!seen.mark(Identity::Id(Uuid::nil())));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(sequences in proptest::collection::vec(0_u64..20_000, 0..500)) {
            let (mut seen, mut set) = (Seen::default(), HashSet::new());
            for sequence in sequences {
                prop_assert_eq!(seen.mark(Identity::Sequence { source: "a", sequence }), set.insert(sequence));
            }
        }
    }
}
