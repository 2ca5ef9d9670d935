//! The oracle's judgement over what is on the topic. Pure, but for reading it.

use std::collections::HashMap;

use anyhow::{Context, Result};
use kafka_client::{ClientSettings, StoredRecord, TopicReader};
use uuid::Uuid;

use super::writers::key_name;

/// What was found, beside what was expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events of committed transactions.
    pub committed: u64,
    /// Those of them that are on the topic.
    pub relayed: u64,
    /// Those that are not.
    pub lost: u64,
    /// First occurrences that come after a later change of their key.
    pub out_of_order: u64,
    /// Records of no committed transaction.
    pub phantom: u64,
    /// Records whose key or payload is not that of their event, or whose key has another partition elsewhere.
    pub damaged: u64,
    /// Further occurrences, which are allowed.
    pub duplicates: u64,
}

/// An event that must arrive.
struct Expected {
    key: i32,
    number: i64,
    is_seen: bool,
}

/// Judges records in the order of each partition.
pub(crate) struct Judge {
    expected: HashMap<Uuid, Expected>,
    /// The latest change of each key whose event was seen, and the key's partition.
    keys: HashMap<i32, (i64, i32)>,
    verdict: Verdict,
}

impl Judge {
    pub(crate) fn new(expected: Vec<(Uuid, i32, i64)>) -> Self {
        let expected: HashMap<Uuid, Expected> = expected
            .into_iter()
            .map(|(event_id, key, number)| (event_id, Expected { key, number, is_seen: false }))
            .collect();
        let committed = u64::try_from(expected.len()).unwrap_or(u64::MAX);
        Self { expected, keys: HashMap::new(), verdict: Verdict { committed, ..Verdict::default() } }
    }

    pub(crate) fn see(&mut self, record: &StoredRecord) {
        let Some(event) = event_id(record).and_then(|event_id| self.expected.get_mut(&event_id)) else {
            self.verdict.phantom += 1;
            return;
        };
        let (last, partition) = self.keys.entry(event.key).or_insert((0, record.partition));
        if *partition != record.partition || !is_whole(record, event) {
            self.verdict.damaged += 1;
        }
        if event.is_seen {
            self.verdict.duplicates += 1;
            return;
        }
        event.is_seen = true;
        self.verdict.relayed += 1;
        if event.number < *last {
            self.verdict.out_of_order += 1;
        }
        *last = event.number.max(*last);
    }

    pub(crate) fn verdict(self) -> Verdict {
        Verdict { lost: self.verdict.committed - self.verdict.relayed, ..self.verdict }
    }
}

fn event_id(record: &StoredRecord) -> Option<Uuid> {
    std::str::from_utf8(record.header("ce_id")?).ok()?.parse().ok()
}

fn is_whole(record: &StoredRecord, event: &Expected) -> bool {
    let number = record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
    let number = number.and_then(|text| text.trim_end().parse::<i64>().ok());
    number == Some(event.number) && record.key.as_deref() == Some(key_name(event.key).as_bytes())
}

/// Reads the topic from its start to its present end, and judges it. Blocking.
pub(crate) fn judge_topic(
    client: &ClientSettings,
    topic: &str,
    expected: Vec<(Uuid, i32, i64)>,
) -> Result<Verdict> {
    let mut judge = Judge::new(expected);
    let mut reader = TopicReader::open(client, topic)?;
    while let Some(record) = reader.next().context("reading the topic")? {
        judge.see(&record);
    }
    Ok(judge.verdict())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> Uuid {
        Uuid::from_u128(u128::try_from(number).unwrap())
    }

    fn record(number: i64, partition: i32) -> StoredRecord {
        StoredRecord {
            partition,
            offset: 0,
            timestamp: None,
            key: Some(b"key-7".to_vec()),
            value: Some(format!("{number}  ").into_bytes()),
            headers: vec![("ce_id".to_owned(), Some(id(number).to_string().into_bytes()))],
        }
    }

    fn judged(records: &[StoredRecord]) -> Verdict {
        let mut judge = Judge::new((1..=4).map(|number| (id(number), 7, number)).collect());
        records.iter().for_each(|record| judge.see(record));
        judge.verdict()
    }

    #[test]
    fn each_violation_is_counted_as_what_it_is() {
        let whole = Verdict { committed: 4, relayed: 4, ..Verdict::default() };
        let altered = StoredRecord { value: Some(b"9".to_vec()), ..record(4, 1) };
        let cases = [
            (vec![1, 2, 3, 4], whole),
            (vec![1, 2, 1, 2, 3, 4], Verdict { duplicates: 2, ..whole }),
            (vec![1, 2, 4], Verdict { relayed: 3, lost: 1, ..whole }),
            (vec![1, 3, 2, 4], Verdict { out_of_order: 1, ..whole }),
            (vec![1, 2, 3, 4, 5], Verdict { phantom: 1, ..whole }),
        ];
        for (numbers, expected) in cases {
            let records: Vec<_> = numbers.iter().map(|number| record(*number, 1)).collect();
            assert_eq!(judged(&records), expected, "{numbers:?}");
        }
        for last in [record(4, 2), altered] {
            let records = [record(1, 1), record(2, 1), record(3, 1), last];
            assert_eq!(judged(&records), Verdict { damaged: 1, ..whole });
        }
    }
}
