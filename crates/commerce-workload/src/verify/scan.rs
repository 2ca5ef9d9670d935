//! Recounts a topic from the beginning of its log: each event once, dead letters not at all.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use commerce_events::{Event, StockEvent, ViewEvent, decode};
use indicatif::ProgressBar;
use kafka_client::{ClientSettings, StoredRecord, TopicReader};
use serde::Serialize;
use uuid::Uuid;

use super::seen::{Identity, Seen};

/// The bar is moved after so many records.
const BAR_STEP: u64 = 10_000;

/// What became of a topic's records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicSummary {
    /// Without prefix.
    pub topic: String,
    /// Records in the log.
    pub records: u64,
    /// Different events among them: what was counted.
    pub events: u64,
    /// Records of an event that had come before.
    pub duplicates: u64,
    /// Records that are dead letters: counted nowhere.
    pub dead_letters: u64,
    /// Records that are no event of the contract.
    pub not_events: u64,
    /// Whether the log still holds its beginning.
    pub complete: bool,
    /// When it does not: the time of the oldest record that it holds.
    pub since: Option<DateTime<Utc>>,
}

/// A product's stock by its newest event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StockState {
    pub(super) version: i64,
    pub(super) sold_out: bool,
}

/// What the events of a topic say, by product. Memory grows with products, not with records.
#[derive(Debug, Default)]
pub(super) struct Recount {
    pub(super) views: HashMap<i64, i64>,
    pub(super) stock: HashMap<i64, StockState>,
    pub(super) summary: TopicSummary,
    seen: Seen,
    dead: HashSet<(i32, i64)>,
}

/// Which log to read.
pub(super) struct Scan {
    pub(super) client: ClientSettings,
    /// Without prefix.
    pub(super) topic: &'static str,
    /// With prefix.
    pub(super) full_name: String,
    /// Partitions and offsets of dead letters.
    pub(super) dead: HashSet<(i32, i64)>,
}

impl Scan {
    /// Reads the log to the end that it has now. Blocking.
    pub(super) fn run(self, bar: &ProgressBar) -> anyhow::Result<Recount> {
        let mut reader = TopicReader::open(&self.client, &self.full_name)?;
        let complete = reader.ranges().values().all(|range| range.low == 0);
        let records = reader.ranges().values().map(|range| range.high - range.low).sum::<i64>();
        bar.inc_length(u64::try_from(records).unwrap_or(0));
        let mut recount = Recount::new(self.topic, self.dead, complete);
        while let Some(record) = reader.next()? {
            recount.add(&record);
            if recount.summary.records.is_multiple_of(BAR_STEP) {
                bar.inc(BAR_STEP);
            }
        }
        bar.inc(recount.summary.records % BAR_STEP);
        Ok(recount)
    }
}

impl Recount {
    fn new(topic: &str, dead: HashSet<(i32, i64)>, complete: bool) -> Self {
        let summary = TopicSummary { topic: topic.to_owned(), complete, ..TopicSummary::default() };
        Self { summary, dead, ..Self::default() }
    }

    fn add(&mut self, record: &StoredRecord) {
        self.summary.records += 1;
        self.note_age(record);
        if self.dead.contains(&(record.partition, record.offset)) {
            self.summary.dead_letters += 1;
            return;
        }
        let Some((event, identity)) = read(record) else {
            self.summary.not_events += 1;
            return;
        };
        if !self.seen.mark(identity) {
            self.summary.duplicates += 1;
            return;
        }
        self.summary.events += 1;
        match event {
            Event::View(ViewEvent::Viewed(view)) => *self.views.entry(view.product_id).or_default() += 1,
            Event::Stock(StockEvent::Depleted(stock)) => self.replace(stock.product_id, stock.version, true),
            Event::Stock(StockEvent::Replenished(stock)) => {
                self.replace(stock.product_id, stock.version, false);
            }
            Event::Catalog(_) | Event::Order(_) => {}
        }
    }

    /// The newest version wins, whatever the order in the log.
    fn replace(&mut self, product_id: i64, version: i64, sold_out: bool) {
        let state = StockState { version, sold_out };
        let known = self.stock.entry(product_id).or_insert(state);
        if known.version < version {
            *known = state;
        }
    }

    fn note_age(&mut self, record: &StoredRecord) {
        if self.summary.complete {
            return;
        }
        if let Some(time) = record.timestamp.and_then(DateTime::from_timestamp_millis) {
            self.summary.since = Some(self.summary.since.map_or(time, |since| since.min(time)));
        }
    }
}

/// The event of a record with what it is known by; `None` for a record that is no event of the contract.
pub(super) fn read(record: &StoredRecord) -> Option<(Event, Identity<'_>)> {
    let event_type = text(record, "ce_type").unwrap_or_default();
    let event = decode(event_type, record.key.as_deref(), record.value.as_deref()).ok()?;
    Some((event, identity(record)?))
}

/// The first header of this name that is not null, as the consumers read it.
fn text<'a>(record: &'a StoredRecord, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(key, value)| key == name && value.is_some())?;
    std::str::from_utf8(value.as_deref()?).ok()
}

/// The number that the outbox gave it; the id only where there is no number, as the consumers know events.
fn identity(record: &StoredRecord) -> Option<Identity<'_>> {
    match text(record, "ce_sequence") {
        Some(sequence) => {
            let sequence = sequence.parse().ok().filter(|sequence| i64::try_from(*sequence).is_ok())?;
            Some(Identity::Sequence { source: text(record, "ce_source")?, sequence })
        }
        None => text(record, "ce_id").and_then(|id| Uuid::parse_str(id).ok()).map(Identity::Id),
    }
}

#[cfg(test)]
mod tests {
    use super::{HashSet, Recount, StockState, StoredRecord};

    fn record(
        offset: i64,
        event_type: &str,
        product_id: i64,
        body: &str,
        sequence: Option<u64>,
    ) -> StoredRecord {
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let mut headers = vec![
            header("ce_type", event_type),
            header("ce_id", "0198e1f0-0000-7000-8000-000000000001"),
            header("ce_source", "urn:outbox:1:1"),
        ];
        headers.extend(sequence.map(|sequence| header("ce_sequence", &sequence.to_string())));
        StoredRecord {
            partition: 0,
            offset,
            timestamp: Some(1_000 - offset),
            key: Some(product_id.to_string().into_bytes()),
            value: Some(format!("{{\"productId\":{product_id}{body}}}").into_bytes()),
            headers,
        }
    }

    #[test]
    fn each_event_counts_once_and_dead_letters_never() {
        let mut recount = Recount::new("view-events", HashSet::from([(0, 3)]), true);
        recount.add(&record(0, "ProductViewed", 5, "", Some(1)));
        recount.add(&record(1, "ProductViewed", 5, "", Some(1)));
        recount.add(&record(2, "ProductViewed", 5, "", Some(2)));
        recount.add(&record(3, "ProductViewed", 5, "", Some(3)));
        recount.add(&record(4, "ProductViewed", 6, "", None));
        recount.add(&record(5, "ProductViewed", 6, "", None));
        recount.add(&record(6, "ProductViewed", -6, "", Some(9)));
        recount.add(&record(7, "Nonsense", 6, "", Some(10)));
        // The dead letter's event, redriven.
        recount.add(&record(8, "ProductViewed", 5, "", Some(3)));
        assert_eq!((recount.views[&5], recount.views[&6]), (3, 1));
        let summary = &recount.summary;
        assert_eq!((summary.records, summary.events, summary.duplicates), (9, 4, 2));
        assert_eq!((summary.dead_letters, summary.not_events, summary.since), (1, 2, None));
    }

    #[test]
    fn a_header_that_is_null_is_none_as_to_the_consumers() {
        let mut recount = Recount::new("view-events", HashSet::new(), true);
        for offset in [0, 1] {
            let mut again = record(offset, "ProductViewed", 5, "", Some(1));
            let nulls = ["ce_type", "ce_sequence", "ce_source"].map(|name| (name.to_owned(), None));
            again.headers.splice(0..0, nulls);
            recount.add(&again);
        }
        assert_eq!((recount.views[&5], recount.summary.duplicates, recount.summary.not_events), (1, 1, 0));
    }

    #[test]
    fn the_newest_stock_wins_in_any_order() {
        let mut recount = Recount::new("stock-events", HashSet::new(), true);
        recount.add(&record(0, "StockReplenished", 5, ",\"quantity\":4,\"version\":9", Some(1)));
        recount.add(&record(1, "StockDepleted", 5, ",\"quantity\":0,\"version\":8", Some(2)));
        assert_eq!(recount.stock[&5], StockState { version: 9, sold_out: false });
    }

    #[test]
    fn a_log_without_its_beginning_says_from_when_it_is() {
        let mut recount = Recount::new("view-events", HashSet::new(), false);
        recount.add(&record(900, "ProductViewed", 5, "", Some(1)));
        recount.add(&record(950, "ProductViewed", 5, "", Some(2)));
        assert_eq!(recount.summary.since.map(|time| time.timestamp_millis()), Some(50));
    }
}
