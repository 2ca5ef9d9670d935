//! A rejected record as a row of `inbox.dead_letter`.

use kafka_client::{RecordRef, RecordTime, TopicPartition};
use uuid::Uuid;

use super::fingerprint::fingerprint;
use super::headers::{clean, clean_bytes, encode};
use crate::engine::plan::Rejection;
use crate::store::dead_letter::Row;

/// Bytes of a value that are kept.
const VALUE_BYTES_MAX: usize = 1024 * 1024;
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
    let text_of = |name: &str| {
        let (_, value) = headers.into_iter().find(|(found, value)| *found == name && value.is_some())?;
        value.map(|value| shorten(clean_bytes(value)))
    };
    let event_type = text_of("ce_type");
    let error = shorten(clean(&rejection.error));
    let (record_timestamp, record_timestamp_type) = match record.time {
        RecordTime::Unknown => (None, None),
        RecordTime::Created(millis) => (Some(millis), Some("CreateTime".to_owned())),
        RecordTime::Appended(millis) => (Some(millis), Some("LogAppendTime".to_owned())),
    };
    Row {
        id: id(group, origin, record.offset),
        consumer_group: group.to_owned(),
        topic: origin.topic.to_string(),
        partition: origin.partition,
        offset: record.offset,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(|value| value[..value.len().min(VALUE_BYTES_MAX)].to_vec()),
        value_bytes: record.value.map(|value| i64::try_from(value.len()).unwrap_or(i64::MAX)),
        headers: encode(headers),
        record_timestamp,
        record_timestamp_type,
        event_id: text_of("ce_id"),
        fingerprint: fingerprint(event_type.as_deref(), rejection.reason, &error),
        event_type,
        reason: rejection.reason.to_owned(),
        error,
        traceparent: text_of("traceparent"),
    }
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
