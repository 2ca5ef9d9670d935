//! Fills the topics with a shop's events, as the relay would have, and says what must come of them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta};
use commerce_events::{CATALOG_EVENTS, Event, ORDER_EVENTS, VIEW_EVENTS};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ThreadedProducer};

use super::mix::{Ledger, Mix};
use crate::ceilings::{self, Acks, Ends};
use crate::drain::PARTITIONS;
use crate::pipeline::Pipeline;

/// What carries the events that are counted.
const TOPICS: [&str; 3] = [CATALOG_EVENTS, ORDER_EVENTS, VIEW_EVENTS];
/// Duplicates among 1,000 events of a dirty topic.
const DUPLICATES_PER_MILLE: u32 = 10;
/// Undecodable records beside 1,000 events of a dirty topic.
const POISON_PER_MILLE: u32 = 1;
/// A duplicate comes at most so many events later: in the same batch of the streamer, or some batches later.
const DUPLICATE_DISTANCE_MAX: u64 = 100_000;
/// When the first event happened; each is a millisecond after the one before.
const FIRST_TIME_MILLIS: i64 = 1_795_000_000_000;

/// What is to be on the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each event once.
    Clean,
    /// Some twice, and undecodable records between them.
    Dirty,
    /// Each event once, without `ce_sequence`, as other producers send them.
    WithoutSequence,
    /// Likes only.
    Likes,
}

/// What is on the topics, and what must come of it.
pub(super) struct Backlog {
    pub(super) topics: Vec<String>,
    pub(super) events: u64,
    pub(super) duplicates: u64,
    pub(super) poison: u64,
    pub(super) ledger: Ledger,
}

impl Backlog {
    pub(super) fn records(&self) -> u64 {
        self.events + self.duplicates + self.poison
    }
}

/// Fills the pipeline's topics.
pub(super) async fn fill(pipeline: &Pipeline, kind: Kind, events: u64) -> Result<Backlog> {
    let (brokers, prefix) = (pipeline.brokers().to_owned(), pipeline.topic(""));
    let topics: Vec<String> = TOPICS.iter().map(|topic| pipeline.topic(topic)).collect();
    let backlog = tokio::task::spawn_blocking(move || {
        let backlog = Filling::new(&brokers, prefix, kind)?.fill(topics, events)?;
        let mut records = 0;
        for topic in &backlog.topics {
            records += Ends::new(&brokers, topic, PARTITIONS)?.total()?;
        }
        ensure!(records == backlog.records(), "{records} of {} records were produced", backlog.records());
        anyhow::Ok(backlog)
    });
    backlog.await?
}

struct Filling {
    producer: ThreadedProducer<Acks>,
    prefix: String,
    kind: Kind,
    mix: Mix,
    /// Sequence of the next event.
    sequence: u64,
    /// What is sent again, by the sequence at which it is.
    again: BTreeMap<(u64, u64), Record>,
}

impl Filling {
    fn new(brokers: &str, prefix: String, kind: Kind) -> Result<Self> {
        let producer = ceilings::producer(brokers)?;
        Ok(Self { producer, prefix, kind, mix: Mix::new(), sequence: 0, again: BTreeMap::new() })
    }

    fn fill(mut self, topics: Vec<String>, events: u64) -> Result<Backlog> {
        let (mut duplicates, mut poison) = (0, 0);
        for _ in 0..events {
            let event = if self.kind == Kind::Likes { self.mix.counted_like() } else { self.mix.event() };
            let record = self.record(&event)?;
            record.send(&self.producer);
            if self.kind != Kind::Dirty {
                continue;
            }
            if self.mix.happens(DUPLICATES_PER_MILLE) {
                let due = self.sequence + self.mix.up_to(DUPLICATE_DISTANCE_MAX);
                self.again.insert((due, self.sequence), record);
                duplicates += 1;
            }
            if self.mix.happens(POISON_PER_MILLE) {
                let view = self.mix.view();
                let mut record = self.record(&view)?;
                record.payload.pop();
                record.send(&self.producer);
                poison += 1;
            }
            self.repeat(self.sequence);
        }
        self.repeat(u64::MAX);
        ceilings::flush(&self.producer)?;
        Ok(Backlog { topics, events, duplicates, poison, ledger: self.mix.into_ledger() })
    }

    /// Sends again what is due.
    fn repeat(&mut self, now: u64) {
        while let Some(entry) = self.again.first_entry() {
            if entry.key().0 > now {
                return;
            }
            entry.remove().send(&self.producer);
        }
    }

    fn record(&mut self, event: &Event) -> Result<Record> {
        self.sequence += 1;
        let time = DateTime::from_timestamp_millis(FIRST_TIME_MILLIS).unwrap_or_default()
            + TimeDelta::milliseconds(i64::try_from(self.sequence)?);
        let sequence = self.sequence.to_string();
        let name = event.type_name();
        let id = uuid::Uuid::now_v7().to_string();
        let time = time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut headers = vec![
            ("ce_specversion", "1.0"),
            ("ce_id", &id),
            ("ce_type", name.as_str()),
            ("ce_source", "urn:outbox:7301234567890123456:1"),
            ("ce_time", &time),
            ("ce_sequence", &sequence),
            ("content-type", "application/json"),
        ];
        if self.kind == Kind::WithoutSequence {
            headers.retain(|(name, _)| *name != "ce_sequence");
        }
        let headers =
            headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| {
                all.insert(Header { key, value: Some(value.as_bytes()) })
            });
        Ok(Record {
            topic: format!("{}{}", self.prefix, name.topic()),
            key: event.aggregate_id().to_string(),
            payload: event.to_json()?,
            headers,
        })
    }
}

struct Record {
    topic: String,
    key: String,
    payload: Vec<u8>,
    headers: OwnedHeaders,
}

impl Record {
    fn send(&self, producer: &ThreadedProducer<Acks>) {
        let record = BaseRecord::with_opaque_to(self.topic.as_str(), 1)
            .key(self.key.as_str())
            .payload(&self.payload[..])
            .headers(self.headers.clone());
        ceilings::send(producer, record);
    }
}
