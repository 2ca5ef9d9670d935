//! Whether letters of any record are sound, for the fuzzer.

use kafka_client::{RecordBatch, RecordRef, TopicPartition};
use serde_json::Value;

use super::fingerprint::normalise;
use super::headers::{clean, decode, encode};
use super::letter::{record_time, row};
use super::record::{Headers, Outgoing, outgoing};
use super::redriven::{ID, ORIGIN, Origin, REDRIVE_COUNT, redriven};
use crate::engine::plan::Rejection;
use crate::store::dead_letter::Row;

/// Bytes of a record on the topic of dead letters; small, so that the fuzzer meets the limit.
const RECORD_BYTES_MAX: usize = 1_024;

/// Makes a letter of a record, sends it to its topic and back to the original one.
///
/// # Panics
/// When the row cannot be stored, or a record is not what it should be.
pub(crate) fn check_letter(origin: &TopicPartition, record: &RecordRef<'_>, rejection: &Rejection) {
    let row = row("group", origin, record, rejection);
    for text in [&row.event_id, &row.event_type, &row.traceparent, &row.lacks].into_iter().flatten() {
        assert!(!text.contains('\0'), "PostgreSQL takes no NUL: {text:?}");
    }
    assert!(!row.error.contains('\0') && !has_nul(&row.headers));
    assert!(!normalise(&row.error).bytes().any(|byte| byte.is_ascii_digit()));
    assert!(row.redrive_count >= 0);
    assert_eq!(record_time(&row), record.time);
    check_sent(&row);
    if row.lacks.is_none() {
        check_redriven(&row, record);
    }
}

fn has_nul(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.values().any(has_nul),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn check_sent(row: &Row) {
    let sent = outgoing(row, "-dlt", RECORD_BYTES_MAX);
    let names = |name: &str| sent.headers.iter().filter(|(found, _)| found == name).count();
    let once = ["kafka_dlt-original-topic", "kafka_dlt-exception-message", ID, ORIGIN, REDRIVE_COUNT];
    assert!(once.into_iter().all(|name| names(name) == 1), "{:?}", sent.headers);
    let width =
        |name: &str| sent.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.len());
    assert_eq!(width("kafka_dlt-original-partition"), Some(4));
    assert_eq!(width("kafka_dlt-original-offset"), Some(8));
    assert!(width("kafka_dlt-original-timestamp").is_none_or(|bytes| bytes == 8));
    let value = sent.value.as_ref().map_or(0, Vec::len);
    let headers: usize = sent.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let is_small = headers + sent.key.as_ref().map_or(0, Vec::len) + value <= RECORD_BYTES_MAX + 64;
    assert!(is_small || value == 0, "nothing but the value is cut");
}

/// The record that is sent again is the same event, and what it says about its lives is read again.
fn check_redriven(row: &Row, record: &RecordRef<'_>) {
    let again = redriven(row);
    assert_eq!(again.key.as_deref(), record.key);
    assert_eq!(again.value.as_deref(), record.value);
    let own = |name: &str| [ID, ORIGIN, REDRIVE_COUNT].contains(&name);
    let headers = record.headers.unwrap_or_default();
    let expected: Headers = headers
        .filter_map(|(name, value)| Some((clean(name), value?.to_vec())))
        .filter(|(name, _)| !own(name))
        .collect();
    let rest: Headers = again.headers.iter().filter(|(name, _)| !own(name)).cloned().collect();
    assert_eq!(rest, expected);
    let known =
        Origin::read(headers).map_or((row.partition, row.offset), |first| (first.partition, first.offset));
    let batch = pushed(&again, row);
    let back = batch.get(0).and_then(|record| record.headers).and_then(Origin::read);
    let back = back.expect("what we write we read");
    assert_eq!((back.partition, back.offset), known);
    assert_eq!(back.redrive_count, row.redrive_count.saturating_add(1));
}

fn pushed(record: &Outgoing, row: &Row) -> RecordBatch {
    let mut batch = RecordBatch::new(TopicPartition { topic: record.topic.as_str().into(), partition: 0 }, 1);
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice())));
    batch.push(0, record_time(row), record.key.as_deref(), record.value.as_deref(), headers);
    batch
}

/// Reads headers as the column of letters holds them, whoever wrote them there.
///
/// # Panics
/// When what was read is not written and read again as the same.
pub fn check_stored_headers(stored: &Value) {
    let headers = decode(stored);
    let encoded = encode(headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
    let cleaned: Vec<_> = headers.into_iter().map(|(name, value)| (clean(&name), value)).collect();
    assert_eq!(decode(&encoded), cleaned);
}
