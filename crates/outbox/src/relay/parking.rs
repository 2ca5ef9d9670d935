//! Which keys are set aside. Pure.
//!
//! Invariant: once a record of a key is refused, no later record of that key is published before an operator has decided:
//! they are all parked, in order.

use std::collections::{HashMap, HashSet};

use thiserror::Error;

use crate::store::parked::BlockedKey;

/// So many keys are parked that the fault is hardly in the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{keys} keys are parked, and no more than {keys_max} may be")]
pub struct ParkingFull {
    /// Keys of this relay's shards with parked records.
    pub keys: usize,
    /// How many this relay allows.
    pub keys_max: usize,
}

/// The blocked keys of the owned shards.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    /// Partition keys by topic.
    blocked: HashMap<String, HashSet<String>>,
    keys: usize,
    keys_max: usize,
}

impl Parking {
    /// With the keys that have parked records, however many they are.
    pub(crate) fn new(keys_max: usize, blocked: Vec<BlockedKey>) -> Self {
        let mut parking = Self { keys_max, ..Self::default() };
        for key in blocked {
            parking.insert(&key.topic, &key.partition_key);
        }
        parking
    }

    /// Whether records of this key are set aside.
    pub(crate) fn blocks(&self, topic: &str, partition_key: &str) -> bool {
        self.keys > 0 && self.blocked.get(topic).is_some_and(|keys| keys.contains(partition_key))
    }

    /// A record of this key is refused: its later ones wait from now on.
    pub(crate) fn block(&mut self, topic: &str, partition_key: &str) -> Result<(), ParkingFull> {
        if self.keys >= self.keys_max && !self.blocks(topic, partition_key) {
            return Err(ParkingFull { keys: self.keys, keys_max: self.keys_max });
        }
        self.insert(topic, partition_key);
        Ok(())
    }

    /// How many keys are blocked.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    fn insert(&mut self, topic: &str, partition_key: &str) {
        if !self.blocked.contains_key(topic) {
            self.blocked.insert(topic.to_owned(), HashSet::new());
        }
        let is_new = self.blocked.get_mut(topic).is_some_and(|keys| keys.insert(partition_key.to_owned()));
        self.keys += usize::from(is_new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(topic: &str, partition_key: &str) -> BlockedKey {
        BlockedKey {
            topic: topic.to_owned(),
            partition_key: partition_key.to_owned(),
            refused: 1,
            waiting: 0,
        }
    }

    #[test]
    fn a_key_is_a_topic_and_a_partition_key() {
        let mut parking = Parking::new(10, vec![key("orders", "1")]);
        assert!(parking.blocks("orders", "1"));
        assert!(!parking.blocks("orders", "2") && !parking.blocks("stock", "1"));
        parking.block("stock", "1").unwrap();
        parking.block("stock", "1").unwrap();
        assert!(parking.blocks("stock", "1"));
        assert_eq!(parking.keys(), 2);
    }

    #[test]
    fn no_more_keys_are_blocked_than_are_allowed() {
        let mut parking = Parking::new(2, vec![key("orders", "1"), key("orders", "2")]);
        assert_eq!(parking.block("orders", "1"), Ok(()), "it is blocked already");
        assert_eq!(parking.block("orders", "3"), Err(ParkingFull { keys: 2, keys_max: 2 }));
        assert!(!parking.blocks("orders", "3"));
    }

    #[test]
    fn keys_that_are_parked_already_are_blocked_beyond_the_limit() {
        let parking = Parking::new(1, vec![key("orders", "1"), key("orders", "2")]);
        assert!(parking.blocks("orders", "1") && parking.blocks("orders", "2"));
    }
}
