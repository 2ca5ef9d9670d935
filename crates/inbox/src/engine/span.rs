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
    use super::*;

    #[test]
    fn a_span_is_cut_before_the_middle_of_its_new_records() {
        let span = Span { records: 2..7, expected: 20, next: 80 };
        let halves = |cut: usize, offset: i64| {
            let first = Span { records: 2..cut, expected: 20, next: offset };
            let second = Span { records: cut..7, expected: offset, next: 80 };
            Isolation::Halves(first, second)
        };
        let offset_of = |index: usize| i64::try_from(index).unwrap() * 10 + 5;
        assert_eq!(span.isolate(&[2, 3, 4, 5, 6], offset_of), halves(4, 45));
        assert_eq!(span.isolate(&[2, 6], offset_of), halves(6, 65));
        assert_eq!(span.isolate(&[5], offset_of), Isolation::Culprit(5));
        assert_eq!(span.isolate(&[], offset_of), Isolation::Nobody);
        assert_eq!(span.advance(), 60);
    }
}
