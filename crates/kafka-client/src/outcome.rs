//! What becomes of records that a producer does not store.

use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message};
use thiserror::Error;

use crate::failure::{Refusal, Trouble, Verdict, judge};

/// A record that was accepted and could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// The broker, or the client knowing the broker's rules, refuses the request in which this record was. That it is
    /// this record is only sure when it was alone in its request.
    #[error("{record} was refused: {text}")]
    Refused {
        /// What is wrong with it.
        refusal: Refusal,
        /// The library's words.
        text: String,
        /// Which record.
        record: Box<FailedRecord>,
    },
    /// The record can be stored when this has passed.
    #[error("{record} was not stored: {text}")]
    Passes {
        /// What stands in the way.
        trouble: Trouble,
        /// The library's words.
        text: String,
        /// Which record.
        record: Box<FailedRecord>,
    },
    /// The producer was dropped before the record was acknowledged; it may or may not be stored.
    #[error("producer was dropped before the record was acknowledged")]
    Dropped,
    /// The producer cannot go on; nothing after this record was stored.
    #[error("producer has failed for good: {0}")]
    Fatal(String),
}

/// Which record was not stored. Copied from the library for failed records only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecord {
    /// Full topic name.
    pub topic: String,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl FailedRecord {
    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_slice())
    }

    fn from_message(message: &impl Message) -> Box<Self> {
        let headers = message.headers().map_or_else(Vec::new, |list| {
            list.iter()
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect()
        });
        Box::new(Self { topic: message.topic().to_owned(), headers })
    }
}

impl std::fmt::Display for FailedRecord {
    /// Without key and contents, which may be personal.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "a record to topic {}", self.topic)
    }
}

impl DeliveryError {
    /// A name with few values, for metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Passes { .. } => "passes",
            Self::Dropped => "dropped",
            Self::Fatal(_) => "fatal",
        }
    }

    /// Which record it is about, where that is told.
    #[must_use]
    pub fn record(&self) -> Option<&FailedRecord> {
        match self {
            Self::Refused { record, .. } | Self::Passes { record, .. } => Some(record),
            Self::Dropped | Self::Fatal(_) => None,
        }
    }

    pub(crate) fn from_kafka(error: &KafkaError, message: &impl Message) -> Self {
        let text = || error.to_string();
        match judge(error.rdkafka_error_code()) {
            Verdict::Refused(refusal) => {
                Self::Refused { refusal, text: text(), record: FailedRecord::from_message(message) }
            }
            Verdict::Passes(trouble) => {
                Self::Passes { trouble, text: text(), record: FailedRecord::from_message(message) }
            }
            Verdict::Dropped => Self::Dropped,
            Verdict::Fatal => Self::Fatal(text()),
        }
    }
}

/// A record that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// Wait for acknowledgements, then send it again.
    #[error("producer queue is full")]
    QueueFull,
    /// It can never be sent as it is.
    #[error("record to topic {topic} was refused: {reason}")]
    Refused {
        /// Where it was meant to go.
        topic: String,
        /// What is wrong with it.
        refusal: Refusal,
        /// The client's words.
        reason: String,
    },
    /// It can be sent when this has passed.
    #[error("record to topic {topic} cannot be sent now: {reason}")]
    Passes {
        /// Where it was meant to go.
        topic: String,
        /// What stands in the way.
        trouble: Trouble,
        /// The client's words.
        reason: String,
    },
    /// The producer cannot go on; a new one is needed.
    #[error("producer has failed for good: {0}")]
    Fatal(String),
}
