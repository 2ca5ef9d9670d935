//! Parts of a batch that are one transaction each, and how a part that the database refuses is cut. Pure.
//!
//! A refused transaction is rolled back as a whole and its two halves are tried one after the other, so order, counts
//! and bits are those of ordinary transactions at every step; k culprits among n events cost O(k log n) transactions.

use std::ops::Range;

/// Consecutive records of a batch, and the offsets that they move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Record indexes.
    pub(crate) records: Range<usize>,
    /// The stored offset before.
    pub(crate) expected: i64,
    /// The stored offset after.
    pub(crate) next: i64,
}

/// What to do about a transaction that was refused because of its events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// These two, in this order, instead.
    Halves(Span, Span),
    /// This record is to blame.
    Culprit(usize),
    /// There was no event to blame: the refusal is not about events.
    Nobody,
}

impl Span {
    /// `fresh` are the records that had an effect, ascending; `offset_of` knows the offset of a record.
    pub(crate) fn isolate(&self, fresh: &[usize], offset_of: impl Fn(usize) -> i64) -> Isolation {
        match fresh {
            [] => Isolation::Nobody,
            [culprit] => Isolation::Culprit(*culprit),
            _ => {
                let cut = fresh[fresh.len() / 2];
                let (first, second) = self.cut(cut, offset_of(cut));
                Isolation::Halves(first, second)
            }
        }
    }

    /// The part before record `index`, which has this offset, and the part from it on.
    pub(crate) fn cut(&self, index: usize, offset: i64) -> (Self, Self) {
        (
            Self { records: self.records.start..index, expected: self.expected, next: offset },
            Self { records: index..self.records.end, expected: offset, next: self.next },
        )
    }

    /// Offsets that it moves.
    pub(crate) fn advance(&self) -> i64 {
        self.next - self.expected
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    struct Outcome {
        applied: Vec<usize>,
        rejected: Vec<usize>,
        moves: Vec<(i64, i64)>,
        attempts: usize,
    }

    /// Runs a batch as the worker does; a transaction fails if it has any of `poison`.
    fn run(offsets: &[i64], first: i64, poison: &BTreeSet<usize>) -> Outcome {
        let next = offsets.last().unwrap() + 1;
        let mut spans = vec![Span { records: 0..offsets.len(), expected: first, next }];
        let (mut applied, mut rejected, mut moves, mut attempts) =
            (Vec::new(), BTreeSet::new(), Vec::new(), 0);
        while let Some(span) = spans.pop() {
            attempts += 1;
            let fresh: Vec<usize> = span.records.clone().filter(|index| !rejected.contains(index)).collect();
            if fresh.iter().any(|index| poison.contains(index)) {
                match span.isolate(&fresh, |index| offsets[index]) {
                    Isolation::Halves(first, second) => spans.extend([second, first]),
                    Isolation::Culprit(index) => {
                        rejected.insert(index);
                        spans.push(span);
                    }
                    Isolation::Nobody => unreachable!("a poison record is fresh"),
                }
            } else {
                applied.extend(fresh);
                moves.push((span.expected, span.next));
            }
        }
        Outcome { applied, rejected: rejected.into_iter().collect(), moves, attempts }
    }

    proptest! {
        #[test]
        fn exactly_the_poison_is_isolated_and_all_else_is_applied_in_order(
            gaps in prop::collection::vec(1_i64..4, 1..200),
            poison in prop::collection::btree_set(0_usize..200, 0..20),
        ) {
            let offsets: Vec<i64> = gaps.iter().scan(10, |offset, gap| { *offset += gap; Some(*offset) }).collect();
            let poison: BTreeSet<usize> = poison.into_iter().filter(|index| *index < offsets.len()).collect();
            let Outcome { applied, rejected, moves, attempts } = run(&offsets, 5, &poison);
            prop_assert_eq!(&rejected, &poison.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(applied, (0..offsets.len()).filter(|index| !poison.contains(index)).collect::<Vec<_>>());
            prop_assert_eq!(moves[0].0, 5);
            prop_assert_eq!(moves.last().unwrap().1, offsets.last().unwrap() + 1);
            prop_assert!(moves.windows(2).all(|pair| pair[0].1 == pair[1].0));
            let depth = usize::try_from(offsets.len().ilog2()).unwrap() + 2;
            prop_assert!(attempts <= 1 + poison.len() * 2 * depth);
        }
    }

    #[test]
    fn a_refusal_without_events_blames_nobody() {
        let span = Span { records: 0..3, expected: 1, next: 9 };
        assert_eq!(span.isolate(&[], |_| 0), Isolation::Nobody);
        assert_eq!(span.advance(), 8);
    }
}
