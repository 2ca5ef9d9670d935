//! A rejected record as a row of `inbox.dead_letter`.

use kafka_client::{HeaderIter, RecordRef, RecordTime, TopicPartition};
use uuid::Uuid;

use super::fingerprint::fingerprint;
use super::headers::{clean, clean_bytes, encode};
use super::redriven::Origin;
use crate::engine::plan::Rejection;
use crate::store::dead_letter::Row;

/// Bytes of a value that are kept.
const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a key that are kept.
const KEY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of header names and values that are kept; those behind are left out.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Characters of texts that come from the record or the error.
const TEXT_CHARS_MAX: usize = 2_000;
/// Namespace of dead letter ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d5b_0f0e_3c59_5c0b_9d4e_2f6a_7b8c_9d0e);

/// The id of a dead letter: known from where the record was, so that writing or publishing it again does not double it.
pub(crate) fn id(group: &str, origin: &TopicPartition, offset: i64) -> Uuid {
    let name = format!("{group}\n{}\n{}\n{offset}", origin.topic, origin.partition);
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The row of one record.
pub(crate) fn row(
    group: &str,
    origin: &TopicPartition,
    record: &RecordRef<'_>,
    rejection: &Rejection,
) -> Row {
    let headers = record.headers.unwrap_or_default();
    let kept_headers = first_headers(headers);
    let lacks = [
        (record.value.is_some_and(|value| value.len() > VALUE_BYTES_MAX), "value"),
        (record.key.is_some_and(|key| key.len() > KEY_BYTES_MAX), "key"),
        (record.headers.is_none() || kept_headers.len() < headers.into_iter().count(), "headers"),
    ];
    let lacks: Vec<&str> = lacks.into_iter().filter(|(is_cut, _)| *is_cut).map(|(_, part)| part).collect();
    let origin_of_event = Origin::read(headers);
    let text_of = |name: &str| {
        let (_, value) = headers.into_iter().find(|(found, value)| *found == name && value.is_some())?;
        value.map(|value| shorten(clean_bytes(value)))
    };
    let event_type = text_of("ce_type");
    let cause = Cause::new(event_type.as_deref(), rejection);
    let (record_timestamp, record_timestamp_type) = stored_time(record.time);
    Row {
        id: id(group, origin, record.offset),
        consumer_group: group.to_owned(),
        topic: origin.topic.to_string(),
        partition: origin.partition,
        offset: record.offset,
        key: record.key.map(|key| first_bytes(key, KEY_BYTES_MAX)),
        value: record.value.map(|value| first_bytes(value, VALUE_BYTES_MAX)),
        value_bytes: record.value.map(|value| i64::try_from(value.len()).unwrap_or(i64::MAX)),
        headers: encode(kept_headers.into_iter()),
        record_timestamp,
        record_timestamp_type,
        event_id: text_of("ce_id"),
        fingerprint: cause.fingerprint,
        event_type,
        reason: cause.reason.to_owned(),
        error: cause.error,
        traceparent: text_of("traceparent"),
        first_id: origin_of_event.map(|first| {
            let place = TopicPartition { topic: origin.topic.clone(), partition: first.partition };
            id(group, &place, first.offset)
        }),
        redrive_count: origin_of_event.map_or(0, |first| first.redrive_count),
        lacks: (!lacks.is_empty()).then(|| lacks.join(", ")),
    }
}

/// Why a record is a letter, as it is stored.
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) error: String,
    pub(crate) fingerprint: String,
}

impl Cause {
    pub(crate) fn new(event_type: Option<&str>, rejection: &Rejection) -> Self {
        let error = shorten(clean(&rejection.error));
        let fingerprint = fingerprint(event_type, rejection.reason, &error);
        Self { reason: rejection.reason, error, fingerprint }
    }
}

/// How a record's time is stored: milliseconds since 1970, and who stamped it, in Kafka's words.
fn stored_time(time: RecordTime) -> (Option<i64>, Option<String>) {
    match time {
        RecordTime::Unknown => (None, None),
        RecordTime::Created(millis) => (Some(millis), Some(CREATED.to_owned())),
        RecordTime::Appended(millis) => (Some(millis), Some(APPENDED.to_owned())),
    }
}

/// The time of a stored record.
pub(crate) fn record_time(row: &Row) -> RecordTime {
    match (row.record_timestamp, row.record_timestamp_type.as_deref()) {
        (Some(millis), Some(APPENDED)) => RecordTime::Appended(millis),
        (Some(millis), _) => RecordTime::Created(millis),
        (None, _) => RecordTime::Unknown,
    }
}

const CREATED: &str = "CreateTime";
const APPENDED: &str = "LogAppendTime";

fn first_bytes(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes[..bytes.len().min(length)].to_vec()
}

/// The headers, or as many of the first ones as may be kept.
fn first_headers(headers: HeaderIter<'_>) -> Vec<(&str, Option<&[u8]>)> {
    let mut room = HEADERS_BYTES_MAX;
    let fits = |(name, value): &(&str, Option<&[u8]>)| {
        let left = room.checked_sub(name.len() + value.map_or(0, <[u8]>::len));
        room = left.unwrap_or(0);
        left.is_some()
    };
    headers.into_iter().take_while(fits).collect()
}

fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(key: &[u8], value: &[u8], headers: &[(&str, Option<&[u8]>)]) -> Row {
        let origin = TopicPartition { topic: "t".into(), partition: 1 };
        let mut batch = kafka_client::RecordBatch::new(origin.clone(), 1);
        batch.push(7, RecordTime::Unknown, Some(key), Some(value), headers.iter().copied());
        row("g", &origin, &batch.get(0).unwrap(), &Rejection::new("bad", "no good"))
    }

    #[test]
    fn what_fits_is_kept_whole_and_what_was_cut_is_named() {
        let (key, value, header) =
            (vec![b'k'; KEY_BYTES_MAX], vec![b'v'; VALUE_BYTES_MAX], vec![b'h'; HEADERS_BYTES_MAX - 2]);
        let whole = row_of(&key, &value, &[("a", Some(&header)), ("b", None)]);
        assert_eq!((whole.lacks, whole.headers.as_array().map(Vec::len)), (None, Some(2)));
        assert_eq!((whole.key.unwrap().len(), whole.value.unwrap().len()), (key.len(), value.len()));
        let long = |mut bytes: Vec<u8>| {
            bytes.push(b'x');
            bytes
        };
        let (key, value, header) = (long(key), long(value), long(header));
        let cut = row_of(&key, &value, &[("a", Some(&header)), ("b", None)]);
        assert_eq!((cut.key.unwrap().len(), cut.value.unwrap().len()), (KEY_BYTES_MAX, VALUE_BYTES_MAX));
        assert_eq!(cut.lacks.as_deref(), Some("value, key, headers"));
        assert_eq!(cut.headers.as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_redriven_record_that_fails_again_belongs_to_its_first_letter() {
        let headers = [("x-dlq-origin", Some(&b"3/258"[..])), ("x-dlq-redrive-count", Some(b"2"))];
        let again = row_of(b"k", b"v", &headers);
        let first = TopicPartition { topic: "t".into(), partition: 3 };
        assert_eq!((again.first_id, again.redrive_count), (Some(id("g", &first, 258)), 2));
        let fresh = row_of(b"k", b"v", &headers[1..]);
        assert_eq!((fresh.first_id, fresh.redrive_count), (None, 0));
    }

    #[test]
    fn a_hostile_record_becomes_a_row_that_postgresql_takes() {
        let origin = TopicPartition { topic: "t".into(), partition: 1 };
        let value = vec![b'x'; VALUE_BYTES_MAX + 1];
        let mut batch = kafka_client::RecordBatch::new(origin.clone(), 1);
        let headers = [("ce_type", Some(&b"A\0\xff"[..])), ("ce_id", None), ("x", Some(&b"\0"[..]))];
        batch.push(7, RecordTime::Created(5), Some(b"\0\xff"), Some(&value), headers.into_iter());
        let rejection = Rejection::new("bad", format!("a\0b{}", "ü".repeat(3_000)));
        let row = row("g", &origin, &batch.get(0).unwrap(), &rejection);
        assert_eq!(row.value.unwrap().len(), VALUE_BYTES_MAX);
        assert_eq!(row.value_bytes, Some(1_048_577));
        assert_eq!(row.event_type.as_deref(), Some("A\u{fffd}\u{fffd}"));
        assert_eq!(row.event_id, None);
        assert!(!row.error.contains('\0'));
        assert_eq!(row.error.chars().count(), TEXT_CHARS_MAX);
        assert_eq!(row.id, id("g", &origin, 7));
        assert_ne!(row.id, id("g", &origin, 8));
    }
}
