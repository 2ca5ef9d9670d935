//! What a consumer of the inbox is told.

use std::time::Duration;

use thiserror::Error;

/// Group, topics, limits. Names are full: with the prefix of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Group, topics, and what is fetched ahead.
    pub kafka: kafka_client::ConsumerSettings,
    /// Taken off topics before the projection sees them.
    pub topic_prefix: String,
    /// Who this process is, in `inbox.progress`.
    pub owner: String,
    /// Batches that are decoded and written at the same time; each has a database connection.
    pub workers: usize,
    /// Most producers (`ce_source`) whose events are remembered as bits; events of further ones become dead letters.
    pub sources_max: u32,
    /// How long a batch may go on when its partition is taken away.
    pub revoke_grace: Duration,
    /// How long batches may go on when the process ends.
    pub shutdown_grace: Duration,
    /// Limit of one transaction; the server's, too, for a process that is frozen in the middle of one.
    pub transaction_timeout: Duration,
    /// Not ready when a partition has lag and has not moved for so long.
    pub stall_after: Duration,
    /// How many dead letters stop a partition.
    pub flood: FloodLimits,
    /// What becomes of records whose type the projection does not know.
    pub unknown_types: UnknownTypes,
    /// How much of a strict projection may wait behind dead letters.
    pub blocked: BlockedLimits,
}

/// What becomes of a record whose type the projection does not know ([`Decision::Unknown`](crate::Decision::Unknown)).
/// Either way it is counted (`inbox_unknown_types_total`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownTypes {
    /// Passed over: other services may send what is not meant for this one.
    #[default]
    Skip,
    /// A dead letter (`unknown_event_type`), which a later release can be given again. It counts for the flood guard.
    DeadLetter,
}

/// More dead letters than this stop a partition, until an operator has it resumed: a consumer that cannot decode what it
/// is sent would otherwise empty the whole topic into its dead letters. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimits {
    /// So many dead letters in a row.
    pub in_a_row_max: u32,
    /// The records of a partition are looked at in pieces of so many.
    pub window_records: u32,
    /// So many dead letters in one piece.
    pub window_letters_max: u32,
}

impl Default for FloodLimits {
    /// 100 in a row, or 500 among 1,000.
    fn default() -> Self {
        Self { in_a_row_max: 100, window_records: 1_000, window_letters_max: 500 }
    }
}

/// More that waits behind dead letters ([`OrderingMode::Strict`](crate::OrderingMode::Strict)) stops a partition, until an
/// operator has it resumed: Kafka is the better place for a topic that cannot be worked off. A batch may go beyond. 0 is no
/// limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockedLimits {
    /// So many blocked keys of a topic.
    pub keys_max: u32,
    /// So many letters of one key.
    pub letters_max: u32,
}

impl Default for BlockedLimits {
    /// 1,000 keys, 10,000 letters of each.
    fn default() -> Self {
        Self { keys_max: 1_000, letters_max: 10_000 }
    }
}

impl BlockedLimits {
    /// What is too much, in words for operators.
    pub(crate) fn crowded(self, keys: i64, letters: i64) -> Option<String> {
        let is_beyond = |count: i64, limit: u32| limit > 0 && count > i64::from(limit);
        if is_beyond(letters, self.letters_max) {
            return Some(format!(
                "more than {} letters wait behind a dead letter of one key",
                self.letters_max
            ));
        }
        is_beyond(keys, self.keys_max)
            .then(|| format!("more than {} keys are blocked by dead letters", self.keys_max))
    }
}

impl ConsumerSettings {
    /// Two workers, 1,000 sources, 5 s of grace, not ready after 30 s.
    #[must_use]
    pub fn new(kafka: kafka_client::ConsumerSettings, topic_prefix: impl Into<String>) -> Self {
        let owner = kafka.client.client_id.clone();
        Self {
            kafka,
            topic_prefix: topic_prefix.into(),
            owner,
            workers: 2,
            sources_max: 1_000,
            revoke_grace: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(5),
            transaction_timeout: Duration::from_secs(60),
            stall_after: Duration::from_secs(30),
            flood: FloodLimits::default(),
            unknown_types: UnknownTypes::default(),
            blocked: BlockedLimits::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let refuse = |name, rule| Err(SettingsError { name, rule });
        if self.workers == 0 || self.workers > 64 {
            return refuse("workers", "must be 1 to 64");
        }
        if self.kafka.batch_records_max == 0 || self.kafka.batch_records_max > 100_000 {
            return refuse("batch_records_max", "must be 1 to 100000");
        }
        if self.kafka.batch_bytes_max == 0 || self.kafka.buffer_bytes_max < self.kafka.batch_bytes_max {
            return refuse("buffer_bytes_max", "must be at least batch_bytes_max, which must not be 0");
        }
        if self.kafka.group.is_empty() || self.kafka.topics.is_empty() {
            return refuse("group and topics", "must not be empty");
        }
        if self.sources_max == 0 || self.sources_max > 30_000 {
            return refuse("sources_max", "must be 1 to 30000");
        }
        // A rebalance of the group waits for 60 s at most.
        if self.revoke_grace > Duration::from_secs(45) {
            return refuse("revoke_grace", "must be at most 45 s");
        }
        Ok(())
    }
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("consumer setting {name} {rule}")]
pub struct SettingsError {
    /// The setting.
    pub name: &'static str,
    /// What it must be.
    pub rule: &'static str,
}
