//! The one crate that talks to Kafka's client library: producer, consumer, admin.
//!
//! Deliberately absent: what the records mean.

pub mod admin;
mod awaited;
mod consumer;
pub mod failpoint;
mod failure;
mod headers;
mod hurry;
mod murmur2;
mod outcome;
mod polled;
mod producer;
mod reader;
mod settings;
mod topic_id;
mod weak;

pub use awaited::{AwaitedProducer, OpenCall, PublishError};
pub use consumer::{
    Consumer, ConsumerError, ConsumerEvent, ConsumerSettings, HeaderIter, RecordBatch, RecordRef, RecordTime,
    Start, TopicPartition, WatermarkReader, WatermarksError,
};
pub use failure::{Refusal, Trouble};
pub use murmur2::murmur2;
pub use outcome::{DeliveryError, FailedRecord, SendError};
pub use producer::{DeliverySink, OutgoingRecord, Producer, ProducerError, ProducerSettings};
pub use reader::{ReadError, StoredRecord, TopicReader};
pub use settings::ClientSettings;
pub use topic_id::TopicId;
pub use weak::{WeakSetting, refuse_weak_settings};
