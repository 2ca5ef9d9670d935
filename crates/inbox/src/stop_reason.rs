//! Why a partition is stopped, in words for operators.

use thiserror::Error;
use uuid::Uuid;

/// Why a partition is not read any more. Nothing is skipped: somebody has to decide.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StopReason {
    /// Retention took records that were not handled.
    #[error(
        "stored offset {stored} is below the log's start {low}: records were deleted before they were handled"
    )]
    BelowLogStart {
        /// Where reading should go on.
        stored: i64,
        /// The first offset that is left.
        low: i64,
    },
    /// The topic was deleted and created again, or its end was lost.
    #[error("stored offset {stored} is beyond the log's end {high}: the topic is not the one that was read")]
    BeyondLogEnd {
        /// Where reading should go on.
        stored: i64,
        /// One past the last offset.
        high: i64,
    },
    /// The topic was deleted and created again, even if it was refilled past the stored offset.
    #[error(
        "topic id was {read} and is {found}: the topic was created again and is not the one that was read"
    )]
    TopicChanged {
        /// The id of the topic whose offset is stored.
        read: Uuid,
        /// The id that the brokers tell.
        found: Uuid,
    },
    /// The brokers do not tell the topic's id, or do not have the topic. It is asked for again.
    #[error("topic id is not known: the topic does not exist, or no broker answers")]
    TopicUnknown,
    /// The broker refused the offset while reading.
    #[error("log does not have offset {0}")]
    OutOfRange(i64),
    /// The partition's row was deleted.
    #[error("partition has no row in inbox.progress any more")]
    NoProgress,
    /// There were too many dead letters, or an operator stopped it; `crate::offsets` says how to go on.
    #[error("partition was halted: {0}")]
    Halted(String),
    /// A new partition without a leader: its log start is not known yet. It is asked for again.
    #[error("log start is not known: the partition has no leader")]
    LogUnknown,
}

impl StopReason {
    /// Whether it may be mended while the process runs: by a leader, by the log, or by an operator who sets the offset.
    pub(crate) fn is_asked_about_again(&self) -> bool {
        match self {
            Self::BelowLogStart { .. }
            | Self::BeyondLogEnd { .. }
            | Self::TopicChanged { .. }
            | Self::TopicUnknown
            | Self::OutOfRange(_)
            | Self::Halted(_)
            | Self::LogUnknown => true,
            // Asked about again, a partition without a row would begin at the log's start.
            Self::NoProgress => false,
        }
    }
}
