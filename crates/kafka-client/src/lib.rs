//! The one crate that talks to Kafka's client library: producer, consumer, admin.
//!
//! Deliberately absent: what the records mean.

mod awaited;
#[cfg(feature = "failpoints")]
pub mod failpoint;
mod producer;
mod reader;
mod settings;
mod weak;

pub use awaited::{AwaitedProducer, PublishError};
pub use producer::{
    DeliveryError, DeliverySink, OutgoingRecord, Producer, ProducerError, ProducerSettings, SendError,
};
pub use reader::{LogRange, ReadError, StoredRecord, TopicReader, log_ranges};
pub use settings::ClientSettings;
pub use weak::{WeakSetting, refuse_weak_settings};
