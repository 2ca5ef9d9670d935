//! Reads a topic once, from the start of its log to the end that it had when the reader was opened.
//!
//! For tools that recount or repeat what a topic holds: no consumer group, no stored offsets, constant memory.
//! Blocking: call it on a thread of its own (`tokio::task::spawn_blocking`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use thiserror::Error;

use crate::admin::Watermarks;
use crate::headers::readable;
use crate::settings::ClientSettings;

/// How long a question to the brokers may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// A read that brings nothing for so long has failed: the log is known to hold more.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Between two questions to a partition without a leader.
const LEADER_PAUSE: Duration = Duration::from_millis(50);
/// How long one poll waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// When the producer or broker stamped it, milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order; empty if they cannot be read, because a name is not UTF-8.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl StoredRecord {
    /// The value of the last header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref())
    }
}

/// Why a topic cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The client library does not take the settings.
    #[error("consumer settings are not usable")]
    Settings(#[source] KafkaError),
    /// The brokers do not say what the topic holds.
    #[error("partitions of topic {topic} cannot be listed")]
    Describe {
        /// The topic.
        topic: String,
        /// The client's words.
        #[source]
        source: KafkaError,
    },
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    NoTopic(String),
    /// A record that is there cannot be read.
    #[error("topic {topic} cannot be read")]
    Read {
        /// The topic.
        topic: String,
        /// The client's words.
        #[source]
        source: KafkaError,
    },
    /// The brokers fell silent.
    #[error("topic {topic} brought nothing for {} s, {left} partitions are not at their end", SILENCE_MAX.as_secs())]
    Silent {
        /// The topic.
        topic: String,
        /// Partitions that are not read to their end.
        left: usize,
    },
}

/// Reads every partition of one topic to the end it had at the beginning.
pub struct TopicReader {
    topic: String,
    consumer: BaseConsumer,
    ranges: BTreeMap<i32, Watermarks>,
    /// Partitions still to be read, with their ends.
    open: BTreeMap<i32, i64>,
}

impl TopicReader {
    /// Finds the partitions and their ends, and begins to fetch.
    ///
    /// # Errors
    /// When the brokers do not answer or the topic does not exist.
    pub fn open(client: &ClientSettings, topic: &str) -> Result<Self, ReadError> {
        let consumer = consumer(client)?;
        let describe = |source| ReadError::Describe { topic: topic.to_owned(), source };
        let ranges = ranges(&consumer, topic)?;
        let open: BTreeMap<i32, i64> = ranges
            .iter()
            .filter(|(_, range)| range.low < range.high)
            .map(|(&id, range)| (id, range.high))
            .collect();
        let mut assignment = TopicPartitionList::with_capacity(open.len());
        for (&partition, range) in &ranges {
            if open.contains_key(&partition) {
                assignment
                    .add_partition_offset(topic, partition, Offset::Offset(range.low))
                    .map_err(describe)?;
            }
        }
        consumer.assign(&assignment).map_err(describe)?;
        Ok(Self { topic: topic.to_owned(), consumer, ranges, open })
    }

    /// What is read, by partition; a `low` above 0 means that retention has taken the records before it.
    #[must_use]
    pub fn ranges(&self) -> &BTreeMap<i32, Watermarks> {
        &self.ranges
    }

    /// The next record; in offset order within a partition, in no particular order between partitions. `None` when
    /// every partition is read to its end. Blocks until there is one.
    ///
    /// # Errors
    /// When the log cannot be read, or the brokers are silent for a minute.
    #[expect(
        clippy::should_implement_trait,
        reason = "it blocks and fails: not what users of an iterator expect"
    )]
    pub fn next(&mut self) -> Result<Option<StoredRecord>, ReadError> {
        let mut silence = Duration::ZERO;
        while !self.open.is_empty() {
            match self.consumer.poll(POLL_TIMEOUT) {
                None => {
                    silence += POLL_TIMEOUT;
                    if silence >= SILENCE_MAX {
                        return Err(ReadError::Silent { topic: self.topic.clone(), left: self.open.len() });
                    }
                }
                Some(Ok(message)) => {
                    let Some(end) = self.open.get(&message.partition()).copied() else { continue };
                    if message.offset() + 1 >= end {
                        self.open.remove(&message.partition());
                    }
                    if message.offset() < end {
                        return Ok(Some(stored(&message)));
                    }
                }
                // The rest of the range holds no records (control records, compaction).
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(source)) => return Err(ReadError::Read { topic: self.topic.clone(), source }),
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TopicReader")
            .field("topic", &self.topic)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

fn ranges(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, Watermarks>, ReadError> {
    let describe = |source| ReadError::Describe { topic: topic.to_owned(), source };
    let mut ranges = BTreeMap::new();
    for partition in partitions(consumer, topic)? {
        ranges.insert(partition, watermarks(consumer, topic, partition).map_err(describe)?);
    }
    Ok(ranges)
}

/// The ends of a partition. One that was created a moment ago, or is moving, has no leader yet: it is asked for again.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> KafkaResult<Watermarks> {
    let begun = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, ASK_TIMEOUT) {
            Ok((low, high)) => return Ok(Watermarks { low, high }),
            Err(error) if has_no_leader(&error) && begun.elapsed() < ASK_TIMEOUT => {
                // Nothing is assigned yet: it waits, and serves the client meanwhile.
                drop(consumer.poll(LEADER_PAUSE));
            }
            Err(error) => return Err(error),
        }
    }
}

fn has_no_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

fn consumer(client: &ClientSettings) -> Result<BaseConsumer, ReadError> {
    // The library wants a group id even where no group is used.
    client
        .config(&[
            ("group.id", "none"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            ("fetch.queue.backoff.ms", "20"),
            // Bounds the memory, whatever the size of records.
            ("queued.max.messages.kbytes", "32768"),
        ])
        .create()
        .map_err(ReadError::Settings)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>, ReadError> {
    let describe = |source| ReadError::Describe { topic: topic.to_owned(), source };
    let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT).map_err(describe)?;
    let ids: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|found| found.name() == topic && found.error().is_none())
        .flat_map(|found| found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
        .collect();
    if ids.is_empty() { Err(ReadError::NoTopic(topic.to_owned())) } else { Ok(ids) }
}

/// Troubles that the library overcomes by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn stored(message: &BorrowedMessage<'_>) -> StoredRecord {
    StoredRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().and_then(stored_headers).unwrap_or_default(),
    }
}

fn stored_headers(headers: &impl Headers) -> Option<Vec<(String, Option<Vec<u8>>)>> {
    readable(|| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, Headers};

    use super::stored_headers;

    /// Headers of which the client library can read so many.
    struct Foreign(usize);

    impl Headers for Foreign {
        fn count(&self) -> usize {
            2
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            assert!(index < self.0, "name is not UTF-8");
            (index < self.count()).then_some(Header { key: "name", value: Some(b"value") })
        }
    }

    #[test]
    fn headers_whose_reading_panics_are_none() {
        let header = ("name".to_owned(), Some(b"value".to_vec()));
        assert_eq!(stored_headers(&Foreign(3)), Some(vec![header.clone(), header]));
        assert_eq!(stored_headers(&Foreign(1)), None);
    }
}
