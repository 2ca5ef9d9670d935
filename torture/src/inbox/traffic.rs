//! The producer, and the ledger of what it produced.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use kafka_client::{AwaitedProducer, OutgoingRecord, ProducerSettings};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::event::{Event, Kind, PRODUCTS};
use super::mix::Mix;
use super::stage::Stage;

/// Events that are sent together, and the pause after them.
const CHUNK: usize = 40;
const PAUSE: Duration = Duration::from_millis(60);
/// Keys that are alive at the same time, and events until the oldest of them falls silent.
const KEYS: u64 = 60;
const EVENTS_OF_KEY: u64 = 20;
/// Events that may be sent again.
const RECENT: usize = 2_000;

/// Every event that the broker has, and how many records they are.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) events: BTreeMap<Uuid, Event>,
    /// Number of each event's first record: in this order they have to have their effects, key by key.
    pub(crate) numbers: BTreeMap<Uuid, u64>,
    pub(crate) records: u64,
    /// Records of events that are poison.
    pub(crate) poison_records: u64,
}

/// Draws events.
struct Script {
    random: StdRng,
    poison: bool,
    sequence: u64,
    versions: BTreeMap<i64, i64>,
    recent: VecDeque<Event>,
}

impl Script {
    fn chunk(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = (0..CHUNK).map(|_| self.event()).collect();
        // Later versions come before earlier ones.
        events.shuffle(&mut self.random);
        events
    }

    fn event(&mut self) -> Event {
        if self.random.random_bool(0.08) && !self.recent.is_empty() {
            return self.recent[self.random.random_range(0..self.recent.len())].clone();
        }
        self.sequence += 1;
        let key =
            i64::try_from(self.sequence / EVENTS_OF_KEY + self.random.random_range(0..KEYS)).unwrap_or(0);
        let version = self.versions.entry(key).or_default();
        *version += 1;
        let kind = match self.random.random_range(0..100) {
            0 if self.poison => Kind::Bad,
            1 if self.poison => Kind::Forbidden,
            _ => Kind::Good,
        };
        let event = Event {
            id: Uuid::from_u128(self.random.random()),
            sequence: self.random.random_bool(0.9).then_some(self.sequence),
            key,
            version: *version,
            product: self.random.random_range(0..PRODUCTS),
            amount: self.random.random_range(1..10),
            kind,
        };
        self.recent.push_back(event.clone());
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        event
    }
}

/// Produces until it is stopped.
pub(crate) async fn produce(
    stage: &Stage,
    ledger: &Mutex<Ledger>,
    seed: u64,
    mix: Mix,
    stop: &CancellationToken,
) -> Result<()> {
    let producer = AwaitedProducer::new(&ProducerSettings::new(stage.client()))?;
    let mut script = Script {
        random: StdRng::seed_from_u64(seed),
        poison: mix.has_poison(),
        sequence: 0,
        versions: BTreeMap::new(),
        recent: VecDeque::new(),
    };
    let topic = stage.topic();
    while !stop.is_cancelled() {
        let events = script.chunk();
        send(&producer, &topic, &events).await?;
        if let Ok(mut ledger) = ledger.lock() {
            for event in events {
                let number = ledger.records;
                ledger.numbers.entry(event.id).or_insert(number);
                ledger.records += 1;
                ledger.poison_records += u64::from(event.kind != Kind::Good);
                ledger.events.insert(event.id, event);
            }
        }
        stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
    }
    Ok(())
}

async fn send(producer: &AwaitedProducer, topic: &str, events: &[Event]) -> Result<()> {
    let texts: Vec<(String, String)> =
        events.iter().map(|event| (event.key.to_string(), event.to_string())).collect();
    let owned: Vec<Vec<(&str, String)>> = events.iter().map(Event::headers).collect();
    let headers: Vec<Vec<(&str, &[u8])>> = owned
        .iter()
        .map(|headers| headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect())
        .collect();
    let records: Vec<OutgoingRecord<'_>> = texts
        .iter()
        .zip(&headers)
        .map(|((key, value), headers)| OutgoingRecord {
            topic,
            key: Some(key.as_bytes()),
            payload: Some(value.as_bytes()),
            headers,
            partition: None,
            timestamp: None,
        })
        .collect();
    Ok(producer.send_all(&records).await?)
}
