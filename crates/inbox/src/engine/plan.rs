//! What becomes of each record of a batch, as far as the records alone tell. Pure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use kafka_client::{HeaderIter, RecordBatch, RecordRef};
use uuid::Uuid;

use super::identity::{FoundIdentity, IdentityHeaders, lane};
use crate::age;
use crate::projection::{Decision, Projection, RecordView, Refusal};
use crate::settings::UnknownTypes;

/// Why a record of an unknown type is a dead letter, if the settings make it one.
pub(crate) const UNKNOWN_EVENT_TYPE: &str = "unknown_event_type";

/// Why a record becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Stable slug.
    pub(crate) reason: &'static str,
    pub(crate) error: String,
}

impl Rejection {
    pub(crate) fn new(reason: &'static str, error: impl Into<String>) -> Self {
        Self { reason, error: error.into() }
    }
}

/// Which event it is; `source` is an index into [`Plan::sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Sequence { source: usize, sequence: i64, lane: i16 },
    Id(Uuid),
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is applied, unless it is a duplicate.
    Apply(Identity),
    /// The projection does not use it.
    Skip,
    /// The projection does not know its type, and such records are skipped.
    SkipUnknown,
    /// It becomes a dead letter.
    Reject(Rejection),
}

/// A decoded batch: for each record its fate, and the event if it is to be applied.
pub(crate) struct Plan<E> {
    pub(crate) batch: RecordBatch,
    pub(crate) fates: Vec<Fate>,
    pub(crate) events: Vec<Option<E>>,
    /// Every `ce_source` of the batch.
    pub(crate) sources: Vec<String>,
}

impl<E> Plan<E> {
    pub(crate) fn new(batch: RecordBatch) -> Self {
        let records = batch.len();
        Self {
            batch,
            fates: Vec::with_capacity(records),
            events: Vec::with_capacity(records),
            sources: Vec::new(),
        }
    }

    /// Decodes up to `count` more records. Answers whether there are more.
    pub(crate) fn decode<P: Projection<Event = E>>(
        &mut self,
        projection: &P,
        topic: &str,
        unknown: UnknownTypes,
        count: usize,
    ) -> bool {
        let begin = self.fates.len();
        let end = self.batch.len().min(begin.saturating_add(count));
        let partition = self.batch.origin.partition;
        for index in begin..end {
            let Some(record) = self.batch.get(index) else { break };
            let (fate, event) = match decode_record(projection, topic, partition, &record) {
                Ok(Decoded::Event(event, found)) => {
                    let identity = intern(&mut self.sources, found, record.key);
                    (Fate::Apply(identity), Some(event))
                }
                Ok(Decoded::Unused) => (Fate::Skip, None),
                Ok(Decoded::Unknown(event_type)) => (decide_unknown(unknown, event_type), None),
                Err(rejection) => (Fate::Reject(rejection), None),
            };
            self.fates.push(fate);
            self.events.push(event);
        }
        end < self.batch.len()
    }

    /// The offset of a record.
    pub(crate) fn offset(&self, index: usize) -> Option<i64> {
        self.batch.get(index).map(|record| record.offset)
    }

    /// The event will not be applied, and is to be remembered as handled if the record says which it is.
    pub(crate) fn give_up(&mut self, index: usize) {
        self.events[index] = None;
        let record = self.batch.get(index);
        let found = record.and_then(|record| {
            let found = EventHeaders::read(record.headers?).identity.find().ok()?;
            Some(intern(&mut self.sources, found, record.key))
        });
        self.fates[index] = found.map_or(Fate::Skip, Fate::Apply);
    }

    /// Rejects the records of sources that have no number because there are too many; answers the numbers of the others.
    pub(crate) fn number(&mut self, numbers: Vec<Option<i16>>, sources_max: u32) -> Vec<i16> {
        if numbers.iter().any(Option::is_none) {
            for index in 0..self.fates.len() {
                if let Fate::Apply(Identity::Sequence { source, .. }) = self.fates[index]
                    && numbers[source].is_none()
                {
                    let error = format!("{sources_max} sources are known already");
                    self.reject(index, Rejection::new("too_many_sources", error));
                }
            }
        }
        // No record refers to the number of a source that has none.
        numbers.into_iter().map(|number| number.unwrap_or(i16::MIN)).collect()
    }

    /// The record will not be applied.
    pub(crate) fn reject(&mut self, index: usize, rejection: Rejection) {
        self.fates[index] = Fate::Reject(rejection);
        self.events[index] = None;
    }
}

fn intern(sources: &mut Vec<String>, found: FoundIdentity<'_>, key: Option<&[u8]>) -> Identity {
    match found {
        FoundIdentity::Id(id) => Identity::Id(id),
        FoundIdentity::Sequence { source, sequence } => {
            // One or two sources in practice; the last one is the likeliest.
            let index = sources.iter().rposition(|known| known == source).unwrap_or_else(|| {
                sources.push(source.to_owned());
                sources.len() - 1
            });
            Identity::Sequence { source: index, sequence, lane: lane(key) }
        }
    }
}

/// The headers that every record is asked for; the first of a name counts.
#[derive(Default)]
struct EventHeaders<'a> {
    event_type: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    identity: IdentityHeaders<'a>,
}

impl<'a> EventHeaders<'a> {
    fn read(headers: HeaderIter<'a>) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let place = match name {
                "ce_type" => &mut found.event_type,
                "ce_time" => &mut found.time,
                "ce_id" => &mut found.identity.id,
                "ce_source" => &mut found.identity.source,
                "ce_sequence" => &mut found.identity.sequence,
                _ => continue,
            };
            if place.is_none() {
                *place = value;
            }
        }
        found
    }
}

/// What a record is to the projection.
enum Decoded<'a, E> {
    Event(E, FoundIdentity<'a>),
    Unused,
    /// With its type.
    Unknown(&'a str),
}

fn decide_unknown(policy: UnknownTypes, event_type: &str) -> Fate {
    match policy {
        UnknownTypes::Skip => Fate::SkipUnknown,
        UnknownTypes::DeadLetter => Fate::Reject(Rejection::new(
            UNKNOWN_EVENT_TYPE,
            format!("event type {event_type:?} is not known"),
        )),
    }
}

fn decode_record<'a, P: Projection>(
    projection: &P,
    topic: &str,
    partition: i32,
    record: &RecordRef<'a>,
) -> Result<Decoded<'a, P::Event>, Rejection> {
    let headers = record
        .headers
        .ok_or_else(|| Rejection::new("unreadable_headers", "name of a header is not UTF-8"))?;
    let found = EventHeaders::read(headers);
    let event_type = found.event_type.ok_or_else(|| Rejection::new("missing_event_type", "no ce_type"))?;
    let event_type = std::str::from_utf8(event_type)
        .map_err(|_| Rejection::new("missing_event_type", "ce_type is not UTF-8"))?;
    let view = RecordView {
        topic,
        partition,
        offset: record.offset,
        key: record.key,
        value: record.value,
        event_type,
        occurred_at: found.time.and_then(time),
        headers,
    };
    match catch_unwind(AssertUnwindSafe(|| projection.decode(&view))) {
        Ok(Ok(Decision::Skip)) => Ok(Decoded::Unused),
        Ok(Ok(Decision::Unknown)) => Ok(Decoded::Unknown(event_type)),
        Ok(Ok(Decision::Apply(event))) => Ok(Decoded::Event(event, found.identity.find()?)),
        Ok(Err(Refusal { reason, error })) => Err(Rejection { reason, error }),
        Err(panic) => Err(Rejection::new("handler_panic", panic_text(panic.as_ref()))),
    }
}

/// When the event occurred: by itself, or by the stamp of its record.
pub(crate) fn occurred_at(record: &RecordRef<'_>) -> Option<SystemTime> {
    let told = record.headers.and_then(|headers| EventHeaders::read(headers).time.and_then(time));
    told.map(SystemTime::from).or_else(|| age::stamp(record.time))
}

fn time(bytes: &[u8]) -> Option<DateTime<Utc>> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use kafka_client::{RecordTime, TopicPartition};

    use super::*;
    use crate::projection::OrderingMode;

    struct Echo;

    impl Projection for Echo {
        type Event = String;

        fn ordering(&self) -> OrderingMode {
            OrderingMode::Commutative
        }

        fn decode(&self, record: &RecordView<'_>) -> Result<Decision<String>, Refusal> {
            match record.event_type {
                "Other" => Ok(Decision::Skip),
                "Foreign" => Ok(Decision::Unknown),
                "Panic" => panic!("cannot decode {}", record.offset),
                "Bad" => Err(Refusal { reason: "bad", error: "no good".to_owned() }),
                _ => Ok(Decision::Apply(format!("{}/{}", record.topic, record.event_type))),
            }
        }

        async fn apply(
            &self,
            _: &mut sqlx::PgConnection,
            _: &str,
            _: i32,
            _: &[String],
        ) -> Result<(), sqlx::Error> {
            Ok(())
        }

        async fn committed(&self, _: &[String]) {}
    }

    fn plan(records: &[&[(&str, &str)]], unknown: UnknownTypes) -> Plan<String> {
        let mut batch = RecordBatch::new(TopicPartition { topic: "pre-t".into(), partition: 0 }, 1);
        for (offset, headers) in records.iter().enumerate() {
            let headers = headers.iter().map(|(name, value)| (*name, Some(value.as_bytes())));
            batch.push(offset.try_into().unwrap(), RecordTime::Unknown, Some(b"21"), None, headers);
        }
        let mut plan = Plan::new(batch);
        while plan.decode(&Echo, "t", unknown, 2) {}
        plan
    }

    #[test]
    fn each_record_has_the_fate_that_its_headers_and_the_projection_decide() {
        let id = "0190b3d2-7e2c-7f3a-8f60-1f2e3d4c5b6a";
        let records: [&[(&str, &str)]; 8] = [
            &[("ce_type", "A"), ("ce_source", "urn:x"), ("ce_sequence", "5")],
            &[("ce_type", "Other")],
            &[("ce_type", "Panic"), ("ce_id", id)],
            &[("ce_type", "Bad"), ("ce_id", id)],
            &[("ce_id", id)],
            &[("ce_type", "A")],
            &[("ce_type", "A"), ("ce_id", id), ("ce_source", "urn:y")],
            &[("ce_type", "A"), ("ce_sequence", "6"), ("ce_source", "urn:z"), ("ce_sequence", "7")],
        ];
        let plan = plan(&records, UnknownTypes::Skip);
        let lane = lane(Some(b"21"));
        assert_eq!(plan.fates[0], Fate::Apply(Identity::Sequence { source: 0, sequence: 5, lane }));
        assert_eq!(plan.events[0].as_deref(), Some("t/A"));
        assert_eq!(plan.fates[1], Fate::Skip);
        let reason = |index: usize| match &plan.fates[index] {
            Fate::Reject(rejection) => rejection.reason,
            _ => "",
        };
        assert_eq!(
            [2, 3, 4, 5].map(reason),
            ["handler_panic", "bad", "missing_event_type", "missing_event_id"]
        );
        assert_eq!(plan.fates[6], Fate::Apply(Identity::Id(id.parse().unwrap())));
        assert_eq!(plan.fates[7], Fate::Apply(Identity::Sequence { source: 1, sequence: 6, lane }));
        assert_eq!(plan.sources, ["urn:x", "urn:z"]);
        assert_eq!(plan.events.iter().flatten().count(), 3);
    }

    #[test]
    fn a_record_of_an_unknown_type_has_the_fate_that_the_settings_decide() {
        let records: [&[(&str, &str)]; 2] = [&[("ce_type", "Foreign")], &[("ce_type", "Other")]];
        assert_eq!(plan(&records, UnknownTypes::Skip).fates, [Fate::SkipUnknown, Fate::Skip]);
        let error = r#"event type "Foreign" is not known"#;
        let rejected = Fate::Reject(Rejection::new(UNKNOWN_EVENT_TYPE, error));
        assert_eq!(plan(&records, UnknownTypes::DeadLetter).fates, [rejected, Fate::Skip]);
    }
}
