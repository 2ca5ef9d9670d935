//! Sends records and waits until the brokers have stored them.

use std::collections::HashMap;
use std::time::Duration;

use kafka_client::admin::{Admin, AdminError};
use kafka_client::{
    AwaitedProducer, DeliveryError, OutgoingRecord, ProducerError, ProducerSettings, PublishError, SendError,
};
use thiserror::Error;

use super::record::Outgoing;

/// A sender that cannot be created.
#[derive(Debug, Error)]
pub enum SenderError {
    /// The producer does not take the settings.
    #[error("there is no producer")]
    Producer(#[source] ProducerError),
    /// The client library does not take the settings.
    #[error("partitions cannot be asked for")]
    Admin(#[source] AdminError),
}

/// Records that are not known to be stored; some of them may be.
#[derive(Debug, Error)]
pub(crate) enum Unsent {
    /// The brokers refuse a record for good.
    #[error("record was refused")]
    Refused(#[source] PublishError),
    /// The producer cannot go on.
    #[error("producer failed")]
    Failed(#[source] PublishError),
    /// The brokers did not answer.
    #[error("brokers did not answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// A producer, and what it has learnt about topics.
pub(crate) struct Sender {
    producer: AwaitedProducer,
    admin: Admin,
    ack_timeout: Duration,
    partitions: HashMap<String, usize>,
}

impl Sender {
    /// Creates the clients; waits for nobody.
    pub(crate) fn new(settings: &ProducerSettings, ack_timeout: Duration) -> Result<Self, SenderError> {
        let producer = AwaitedProducer::new(settings).map_err(SenderError::Producer)?;
        let admin = Admin::new(&settings.client).map_err(SenderError::Admin)?;
        Ok(Self { producer, admin, ack_timeout, partitions: HashMap::new() })
    }

    /// How many partitions a topic has; `None` if it does not exist.
    pub(crate) async fn partition_count(&mut self, topic: &str) -> Result<Option<usize>, AdminError> {
        if let Some(count) = self.partitions.get(topic) {
            return Ok(Some(*count));
        }
        let count = self.admin.partition_count(topic).await?;
        if let Some(count) = count {
            self.partitions.insert(topic.to_owned(), count);
        }
        Ok(count)
    }

    /// Answers when all records are stored; those of one partition in the given order.
    pub(crate) async fn send(&self, records: &[&Outgoing]) -> Result<(), Unsent> {
        let headers: Vec<Vec<(&str, &[u8])>> = records
            .iter()
            .map(|record| {
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
            })
            .collect();
        let outgoing: Vec<OutgoingRecord<'_>> = records
            .iter()
            .zip(&headers)
            .map(|(record, headers)| OutgoingRecord {
                topic: &record.topic,
                key: record.key.as_deref(),
                payload: record.value.as_deref(),
                headers,
                partition: record.partition,
                timestamp: None,
            })
            .collect();
        match tokio::time::timeout(self.ack_timeout, self.producer.send_all(&outgoing)).await {
            Ok(outcome) => outcome.map_err(judge),
            Err(_) => Err(Unsent::Late(self.ack_timeout)),
        }
    }
}

fn judge(error: PublishError) -> Unsent {
    match error {
        // What passes may stand in the way of this record's topic only; it is tried again with the next call.
        PublishError::Send(SendError::Refused { .. } | SendError::Passes { .. })
        | PublishError::Delivery(DeliveryError::Refused { .. } | DeliveryError::Passes { .. }) => {
            Unsent::Refused(error)
        }
        PublishError::Send(SendError::QueueFull | SendError::Fatal(_))
        | PublishError::Delivery(DeliveryError::Dropped | DeliveryError::Fatal(_)) => Unsent::Failed(error),
    }
}
