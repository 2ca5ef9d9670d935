//! Records that a test puts straight into a shop's topics, as another service would.

use anyhow::Result;
use kafka_client::{AwaitedProducer, ClientSettings, OutgoingRecord, ProducerSettings};

use crate::harness::Shop;

/// When all of it happened.
const TIME: &str = "2026-01-01T00:00:00Z";

/// A record in the making.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Without prefix.
    topic: &'static str,
    /// By the key, if it is not given.
    partition: Option<i32>,
    key: String,
    value: String,
    headers: Vec<(&'static str, String)>,
}

impl Record {
    /// An event of a type about the key, with nothing yet that tells it from others.
    pub(crate) fn event(topic: &'static str, event_type: &str, key: i64, value: impl Into<String>) -> Self {
        let headers = vec![("ce_type", event_type.to_owned()), ("ce_time", TIME.to_owned())];
        Self { topic, partition: None, key: key.to_string(), value: value.into(), headers }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn on(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// Who puts them there.
pub(crate) struct Writer {
    producer: AwaitedProducer,
    prefix: String,
}

impl Writer {
    pub(crate) fn new(shop: &Shop) -> Result<Self> {
        let client = ClientSettings::new(shop.topics.brokers(), "test");
        let producer = AwaitedProducer::new(&ProducerSettings::new(client))?;
        Ok(Self { producer, prefix: shop.topics.prefix().to_owned() })
    }

    /// Returns when all are stored.
    pub(crate) async fn write(&self, records: &[Record]) -> Result<()> {
        let topics: Vec<String> =
            records.iter().map(|record| format!("{}{}", self.prefix, record.topic)).collect();
        let headers: Vec<Vec<(&str, &[u8])>> = records
            .iter()
            .map(|record| record.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect())
            .collect();
        let outgoing: Vec<OutgoingRecord<'_>> = records
            .iter()
            .zip(topics.iter().zip(&headers))
            .map(|(record, (topic, headers))| OutgoingRecord {
                topic,
                key: Some(record.key.as_bytes()),
                payload: Some(record.value.as_bytes()),
                headers,
                partition: record.partition,
                timestamp: None,
            })
            .collect();
        Ok(self.producer.send_all(&outgoing).await?)
    }
}
