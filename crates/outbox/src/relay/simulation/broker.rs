//! The broker in miniature, and the judge of what it stores.

use super::Violation;
use super::server::{KEYS, Row};

/// Partitions of the topic.
pub(super) const PARTITIONS: usize = 2;

/// What is on the topic, as far as order and completeness need it.
#[derive(Debug, Default)]
pub(super) struct Broker {
    /// The last change of each key whose first occurrence is stored; all before it are, too.
    seen: [u64; KEYS],
    /// The highest id that is stored.
    pub(super) highest_id: i64,
    pub(super) duplicates: u64,
}

impl Broker {
    /// Stores a record. The first occurrences of a key must tell of its changes one after the other.
    pub(super) fn store(&mut self, row: Row) -> Result<(), Violation> {
        let seen = &mut self.seen[row.key];
        if row.number > *seen + 1 {
            return Err(Violation::OutOfOrder);
        }
        if row.number == *seen + 1 {
            *seen = row.number;
        } else {
            self.duplicates += 1;
        }
        self.highest_id = self.highest_id.max(row.id);
        Ok(())
    }

    pub(super) fn has(&self, row: &Row) -> bool {
        row.number <= self.seen[row.key]
    }

    /// Whether these are the changes that are stored.
    pub(super) fn has_all(&self, changes: &[u64; KEYS]) -> bool {
        self.seen == *changes
    }
}

pub(super) fn partition_of(key: usize) -> usize {
    key / 2 % PARTITIONS
}
