//! Which records of a strict projection wait, because an earlier one of their key became a dead letter. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use super::plan::{Fate, Plan};
use super::span::Span;

/// Why a record that waits is a letter.
pub(crate) const BLOCKED: &str = "blocked";
/// Namespace of key digests.
const NAMESPACE: Uuid = Uuid::from_u128(0x2f1c_7a54_91d3_5e6f_8a0b_4c7d_e852_1936);

/// A key as an index can hold it. Two keys with one digest would share a queue: more order than was asked for, no less.
fn digest(key: &[u8]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, key)
}

/// What the order of keys makes of a span.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Records that wait, whatever would have become of them.
    pub(crate) waiting: BTreeSet<usize>,
    /// Keys that were not blocked before and are from now on.
    pub(crate) newly_blocked: BTreeSet<Uuid>,
    /// Digests of the keys of all records that have a part in the order.
    pub(crate) keys: Keys,
}

/// Digests of keys, by record.
pub(crate) type Keys = BTreeMap<usize, Uuid>;

/// The keys of all records that have a part in the order: those to be applied, and dead letters.
pub(crate) fn keys<E>(plan: &Plan<E>, span: &Span) -> Keys {
    span.records.clone().filter_map(|index| Some((index, key_of(plan, index)?))).collect()
}

/// Whether the span alone blocks a key.
pub(crate) fn has_rejected<E>(plan: &Plan<E>, span: &Span) -> bool {
    span.records.clone().any(|index| matches!(plan.fates[index], Fate::Reject(_)))
}

/// `blocked` are the keys that letters of earlier spans block. A record without a key has no order and never waits.
pub(crate) fn order<E>(plan: &Plan<E>, keys: Keys, blocked: &HashSet<Uuid>) -> Order {
    let (mut waiting, mut newly_blocked) = (BTreeSet::new(), BTreeSet::new());
    for (index, key) in &keys {
        if blocked.contains(key) || newly_blocked.contains(key) {
            waiting.insert(*index);
        } else if matches!(plan.fates[*index], Fate::Reject(_)) {
            newly_blocked.insert(*key);
        }
    }
    Order { waiting, newly_blocked, keys }
}

fn key_of<E>(plan: &Plan<E>, index: usize) -> Option<Uuid> {
    match plan.fates[index] {
        Fate::Apply(_) | Fate::Reject(_) => plan.batch.get(index)?.key.map(digest),
        Fate::Skip | Fate::SkipUnknown => None,
    }
}

#[cfg(test)]
mod tests {
    use kafka_client::{RecordBatch, RecordTime, TopicPartition};

    use super::*;
    use crate::engine::plan::{Identity, Rejection};

    /// A record of each key; `x` is a dead letter, `-` is not used, anything else is to be applied.
    fn plan(records: &[(Option<&str>, char)]) -> (Plan<()>, Span) {
        let mut batch = RecordBatch::new(TopicPartition { topic: "t".into(), partition: 0 }, 1);
        for (offset, (key, _)) in (0_i64..).zip(records) {
            batch.push(offset, RecordTime::Unknown, key.map(str::as_bytes), None, std::iter::empty());
        }
        let mut plan = Plan::new(batch);
        for (_, kind) in records {
            plan.fates.push(match kind {
                'x' => Fate::Reject(Rejection::new("bad", "no good")),
                '-' => Fate::Skip,
                _ => Fate::Apply(Identity::Id(Uuid::nil())),
            });
            plan.events.push(None);
        }
        let next = i64::try_from(records.len()).unwrap();
        (plan, Span { records: 0..records.len(), expected: 0, next })
    }

    fn waiting(records: &[(Option<&str>, char)], blocked: &[&str]) -> (Vec<usize>, BTreeSet<Uuid>) {
        let (plan, span) = plan(records);
        let blocked = blocked.iter().map(|key| digest(key.as_bytes())).collect();
        let order = order(&plan, keys(&plan, &span), &blocked);
        (order.waiting.into_iter().collect(), order.newly_blocked)
    }

    #[test]
    fn what_follows_a_dead_letter_of_its_key_waits_and_nothing_else_does() {
        let (a, b) = (Some("a"), Some("b"));
        let records = [(a, '.'), (b, '.'), (a, 'x'), (b, '.'), (a, '.'), (a, '-'), (a, 'x'), (b, '.')];
        assert_eq!(waiting(&records, &[]), (vec![4, 6], BTreeSet::from([digest(b"a")])));
    }

    #[test]
    fn what_is_blocked_already_waits_from_the_first_record_on() {
        let records = [(Some("a"), '.'), (Some("b"), '.'), (Some("a"), 'x')];
        assert_eq!(waiting(&records, &["a"]), (vec![0, 2], BTreeSet::new()));
    }

    #[test]
    fn records_without_a_key_have_no_order() {
        assert_eq!(waiting(&[(None, 'x'), (None, '.'), (Some(""), '.')], &[]), (vec![], BTreeSet::new()));
    }

    #[test]
    fn keys_are_those_of_records_that_matter() {
        let (plan, span) = plan(&[(Some("a"), '-'), (Some("b"), '.'), (None, '.'), (Some("c"), 'x')]);
        assert_eq!(keys(&plan, &span), BTreeMap::from([(1, digest(b"b")), (3, digest(b"c"))]));
        assert!(has_rejected(&plan, &span));
        assert!(!has_rejected(&plan, &Span { records: 0..3, expected: 0, next: 3 }));
    }
}
