//! What is left to do of a batch, and what each end of a transaction means for it. Pure: workers and the simulation drive it.
//!
//! Invariants: spans are tried in the order of their offsets, and one stays the next until it is known to be committed, so
//! each record is passed once; a commit that was not answered is judged by the stored offset; no transaction reaches beyond
//! the dead letter that is one too many.

use super::flood::Flood;
use super::span::{Isolation, Span};
use crate::settings::FloodLimits;

/// A batch and how far it is.
#[derive(Debug)]
pub(crate) struct Spans {
    /// The next one last.
    left: Vec<Span>,
    doubt: Option<Doubt>,
    /// The partition's dead letters up to what is committed.
    flood: Flood,
    /// The stored offset once nothing is left.
    end: i64,
}

/// A span whose commit was not answered.
#[derive(Debug)]
struct Doubt {
    span: Span,
    /// Its new records.
    fresh: Vec<usize>,
}

/// What one transaction is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) span: Span,
    /// Why the partition is not to be read beyond it.
    pub(crate) halt: Option<String>,
    /// Whether the answer to an earlier commit of it was lost.
    is_in_doubt: bool,
    /// The partition's dead letters up to its end.
    flood: Flood,
}

/// What a stored offset means for a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// It is the part's turn.
    Expected,
    /// It is where the part ends: an earlier attempt, whose answer was lost, did commit.
    HadCommitted,
    /// Another owner moved it.
    Fenced,
    /// Whoever moved it halted the partition, and no operator has had it read again since.
    Halted,
}

/// Whom a refusal is blamed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// One of the part's halves, which are tried one after the other instead of it.
    Halves,
    /// This record, which is to be rejected; the part stays the next.
    Culprit(usize),
    /// No event; the part stays the next.
    Nobody,
}

impl Spans {
    /// `flood` is the partition's up to the batch.
    pub(crate) fn new(batch: Span, flood: Flood) -> Self {
        Self { end: batch.next, left: vec![batch], doubt: None, flood }
    }

    /// The partition's dead letters up to what is committed.
    pub(crate) fn flood(&self) -> Flood {
        self.flood
    }

    /// The stored offset once nothing is left.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// What is to be tried next; `None` when everything is committed. To be asked for again before each attempt: records
    /// may have been rejected since, and then it may end earlier.
    pub(crate) fn next_part(
        &mut self,
        limits: FloodLimits,
        is_rejected: impl Fn(usize) -> bool,
        offset_of: impl Fn(usize) -> Option<i64>,
    ) -> Option<Part> {
        let mut span = self.left.pop()?;
        let mut flood = self.flood;
        let mut halt = None;
        for index in span.records.clone() {
            halt = flood.note(is_rejected(index), limits);
            if halt.is_none() {
                continue;
            }
            let after = Some(index + 1).filter(|after| *after < span.records.end);
            if let Some((after, offset)) = after.and_then(|after| Some((after, offset_of(after)?))) {
                let (head, rest) = span.cut(after, offset);
                self.left.push(rest);
                span = head;
            }
            break;
        }
        self.left.push(span.clone());
        let is_in_doubt = self.doubt.as_ref().is_some_and(|doubt| doubt.span == span);
        Some(Part { span, halt, is_in_doubt, flood })
    }

    /// The part is committed.
    pub(crate) fn committed(&mut self, part: &Part) {
        self.left.pop();
        self.doubt = None;
        self.flood = part.flood;
    }

    /// The part may be committed or not; `fresh` are its new records, if it came so far. Without any nobody has to be told
    /// of its commit, and reading goes on where the fence finds the offset.
    pub(crate) fn unanswered(&mut self, part: &Part, fresh: &[usize]) {
        if !fresh.is_empty() {
            self.doubt = Some(Doubt { span: part.span.clone(), fresh: fresh.to_vec() });
        }
    }

    /// The new records of the span whose commit was not answered.
    pub(crate) fn doubted(&self) -> &[usize] {
        self.doubt.as_ref().map_or(&[], |doubt| &doubt.fresh)
    }

    /// The part was rolled back because of its events; `fresh` are its new records, ascending.
    pub(crate) fn refused(
        &mut self,
        part: &Part,
        fresh: &[usize],
        offset_of: impl Fn(usize) -> Option<i64>,
    ) -> Blame {
        let offset_of = |index| offset_of(index).unwrap_or(part.span.next);
        match part.span.isolate(fresh, offset_of) {
            Isolation::Halves(first, second) => {
                self.left.pop();
                self.left.extend([second, first]);
                Blame::Halves
            }
            Isolation::Culprit(index) => Blame::Culprit(index),
            Isolation::Nobody => Blame::Nobody,
        }
    }
}

impl Part {
    /// What it means that this offset is stored, and that the partition is halted there.
    pub(crate) fn judge(&self, stored: i64, is_halted: bool) -> Position {
        if self.is_in_doubt && stored == self.span.next {
            Position::HadCommitted
        } else if is_halted {
            Position::Halted
        } else if stored == self.span.expected {
            Position::Expected
        } else {
            Position::Fenced
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NO_LIMIT: FloodLimits =
        FloodLimits { in_a_row_max: 0, window_records: 1_000, window_letters_max: 0 };
    const THREE_IN_A_ROW: FloodLimits = FloodLimits { in_a_row_max: 3, ..NO_LIMIT };

    /// Ten records at every tenth offset from 100 on; the stored offset is 95.
    fn batch() -> Spans {
        Spans::new(Span { records: 0..10, expected: 95, next: 191 }, Flood::default())
    }

    fn offset_of(index: usize) -> Option<i64> {
        (index < 10).then(|| 100 + 10 * i64::try_from(index).unwrap())
    }

    fn next_part(spans: &mut Spans, limits: FloodLimits, rejected: &[usize]) -> Option<Part> {
        spans.next_part(limits, |index| rejected.contains(&index), offset_of)
    }

    fn next(spans: &mut Spans) -> Part {
        next_part(spans, NO_LIMIT, &[]).unwrap()
    }

    fn span(records: std::ops::Range<usize>, expected: i64, next: i64) -> Span {
        Span { records, expected, next }
    }

    #[test]
    fn a_batch_is_one_part_and_the_same_until_it_is_committed() {
        let mut spans = batch();
        let part = next(&mut spans);
        assert_eq!((&part.span, &part.halt), (&span(0..10, 95, 191), &None));
        assert_eq!(next(&mut spans), part);
        spans.committed(&part);
        assert_eq!(next_part(&mut spans, NO_LIMIT, &[]), None);
        assert_eq!(spans.end(), 191);
    }

    #[test]
    fn a_stored_offset_is_judged_by_where_the_part_begins_and_by_its_end_only_in_doubt() {
        let mut spans = batch();
        let judged = |part: &Part| [94, 95, 96, 190, 191, 192].map(|stored| part.judge(stored, false));
        let [expected, had, fenced] = [Position::Expected, Position::HadCommitted, Position::Fenced];
        let part = next(&mut spans);
        assert_eq!(judged(&part), [fenced, expected, fenced, fenced, fenced, fenced]);
        spans.unanswered(&part, &[]);
        assert_eq!(next(&mut spans), part, "without new records there is no doubt");
        spans.unanswered(&part, &[2, 5]);
        let doubted = next(&mut spans);
        assert_eq!(judged(&doubted), [fenced, expected, fenced, fenced, had, fenced]);
        spans.unanswered(&doubted, &[]);
        assert_eq!(next(&mut spans), doubted, "an attempt that came to nothing resolves no doubt");
        assert_eq!(spans.doubted(), [2, 5]);
    }

    #[test]
    fn a_halted_partition_is_nobodys_turn_but_an_own_commit_is_told() {
        let mut spans = batch();
        let judged = |part: &Part| [94, 95, 191].map(|stored| part.judge(stored, true));
        let part = next(&mut spans);
        assert_eq!(judged(&part), [Position::Halted; 3]);
        spans.unanswered(&part, &[2]);
        let doubted = next(&mut spans);
        assert_eq!(judged(&doubted), [Position::Halted, Position::Halted, Position::HadCommitted]);
    }

    #[test]
    fn a_doubt_is_about_one_span_and_over_with_its_commit() {
        let mut spans = batch();
        let whole = next(&mut spans);
        spans.unanswered(&whole, &[0, 4]);
        assert_eq!(spans.refused(&whole, &[0, 4], offset_of), Blame::Halves);
        let half = next(&mut spans);
        assert_eq!(half.judge(half.span.next, false), Position::Fenced, "its commit was answered");
        spans.unanswered(&half, &[0]);
        assert_eq!(next(&mut spans).judge(half.span.next, false), Position::HadCommitted);
        spans.committed(&half);
        assert_eq!(spans.doubted(), [0; 0]);
        let other = next(&mut spans);
        assert_eq!(other.judge(other.span.next, false), Position::Fenced);
    }

    #[test]
    fn a_refused_part_is_halved_in_order_until_one_new_record_is_to_blame() {
        let mut spans = batch();
        let part = next(&mut spans);
        assert_eq!(spans.refused(&part, &[], offset_of), Blame::Nobody);
        assert_eq!(next(&mut spans), part);
        assert_eq!(spans.refused(&part, &[1, 6, 8], offset_of), Blame::Halves);
        let first = next(&mut spans);
        assert_eq!(first.span, span(0..6, 95, 160));
        assert_eq!(spans.refused(&first, &[1], offset_of), Blame::Culprit(1));
        assert_eq!(next(&mut spans), first, "it is tried again without the culprit");
        spans.committed(&first);
        assert_eq!(next(&mut spans).span, span(6..10, 160, 191));
    }

    #[test]
    fn a_part_ends_with_the_dead_letter_that_is_one_too_many() {
        for (rejected, end, halt) in [
            (vec![0, 1, 3, 4, 6, 7, 9], 10, false),
            (vec![0, 1, 2], 3, true),
            (vec![1, 2, 4, 5, 6, 7], 7, true),
            (vec![7, 8, 9], 10, true),
        ] {
            let mut spans = batch();
            let part = next_part(&mut spans, THREE_IN_A_ROW, &rejected).unwrap();
            let next = offset_of(end).unwrap_or(191);
            assert_eq!(
                (part.span.clone(), part.halt.is_some()),
                (span(0..end, 95, next), halt),
                "{rejected:?}"
            );
            spans.committed(&part);
            let rest = next_part(&mut spans, THREE_IN_A_ROW, &rejected).map(|rest| rest.span);
            assert_eq!(rest, (end < 10).then(|| span(end..10, next, 191)), "{rejected:?}");
        }
        let share = FloodLimits { window_records: 4, window_letters_max: 2, ..NO_LIMIT };
        let part = next_part(&mut batch(), share, &[3, 4, 6]).unwrap();
        assert_eq!((part.span.records, part.halt.as_deref()), (0..7, Some("2 dead letters among 3 records")));
    }

    #[test]
    fn dead_letters_count_from_part_to_part_and_once_they_are_committed() {
        let mut spans = batch();
        let part = next(&mut spans);
        spans.refused(&part, &[2, 4, 5], offset_of);
        let first = next_part(&mut spans, THREE_IN_A_ROW, &[2, 3, 4]).unwrap();
        assert_eq!(first.span.records, 0..4);
        assert_eq!(spans.flood(), Flood::default(), "nothing is committed");
        spans.committed(&first);
        assert_eq!(spans.flood(), first.flood);
        let second = next_part(&mut spans, THREE_IN_A_ROW, &[2, 3, 4]).unwrap();
        assert_eq!((second.span.records, second.halt.as_deref()), (4..5, Some("3 dead letters in a row")));
    }

    #[test]
    fn a_part_that_ends_before_the_one_in_doubt_is_not_in_doubt() {
        let mut spans = batch();
        let whole = next(&mut spans);
        spans.unanswered(&whole, &[0]);
        let cut = next_part(&mut spans, THREE_IN_A_ROW, &[1, 2, 3]).unwrap();
        assert_eq!((cut.span.records.clone(), cut.judge(cut.span.next, false)), (0..4, Position::Fenced));
    }

    #[derive(Debug, Default)]
    struct Outcome {
        applied: Vec<usize>,
        rejected: BTreeSet<usize>,
        moves: Vec<(i64, i64)>,
        attempts: usize,
    }

    /// Runs a batch; a transaction is refused if it has any of `poison`.
    fn run(offsets: &[i64], poison: &BTreeSet<usize>) -> Outcome {
        let next = offsets.last().unwrap() + 1;
        let mut spans = Spans::new(Span { records: 0..offsets.len(), expected: 5, next }, Flood::default());
        let offset_of = |index: usize| offsets.get(index).copied();
        let mut outcome = Outcome::default();
        while let Some(part) = spans.next_part(NO_LIMIT, |index| outcome.rejected.contains(&index), offset_of)
        {
            outcome.attempts += 1;
            assert!(outcome.attempts < 1_000, "goes round in circles");
            let is_fresh = |index: &usize| !outcome.rejected.contains(index);
            let fresh: Vec<usize> = part.span.records.clone().filter(is_fresh).collect();
            if !fresh.iter().any(|index| poison.contains(index)) {
                spans.committed(&part);
                outcome.applied.extend(fresh);
                outcome.moves.push((part.span.expected, part.span.next));
            } else if let Blame::Culprit(index) = spans.refused(&part, &fresh, offset_of) {
                outcome.rejected.insert(index);
            }
        }
        outcome
    }

    proptest! {
        #[test]
        fn exactly_the_poison_is_isolated_and_all_else_is_applied_in_order(
            gaps in prop::collection::vec(1_i64..4, 1..200),
            poison in prop::collection::btree_set(0_usize..200, 0..20),
        ) {
            let offsets: Vec<i64> = gaps.iter().scan(10, |offset, gap| { *offset += gap; Some(*offset) }).collect();
            let poison: BTreeSet<usize> = poison.into_iter().filter(|index| *index < offsets.len()).collect();
            let Outcome { applied, rejected, moves, attempts } = run(&offsets, &poison);
            prop_assert_eq!(&rejected, &poison);
            prop_assert_eq!(applied, (0..offsets.len()).filter(|index| !poison.contains(index)).collect::<Vec<_>>());
            prop_assert_eq!(moves[0].0, 5);
            prop_assert_eq!(moves.last().unwrap().1, offsets.last().unwrap() + 1);
            prop_assert!(moves.windows(2).all(|pair| pair[0].1 == pair[1].0));
            let depth = usize::try_from(offsets.len().ilog2()).unwrap() + 2;
            prop_assert!(attempts <= 1 + poison.len() * 2 * depth);
        }
    }
}
