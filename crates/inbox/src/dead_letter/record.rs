//! A dead letter as a record on its topic, with the headers of Spring Kafka so that its tools know it.

use super::headers::decode;
use super::redriven::{ID, ORIGIN, Origin, REDRIVE_COUNT};
use crate::store::dead_letter::Row;

/// Headers of the record, in order.
pub(crate) type Headers = Vec<(String, Vec<u8>)>;

/// A record to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Headers,
    /// An explicit partition; the key decides if there is none.
    pub(crate) partition: Option<i32>,
}

/// Characters of the error in a header.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// The record of a dead letter for its topic, on the original partition's number. The value is cut where the record
/// would be longer than `record_bytes_max`, and a header says so.
pub(crate) fn outgoing(row: &Row, suffix: &str, record_bytes_max: usize) -> Outgoing {
    let mut headers: Headers = decode(&row.headers)
        .into_iter()
        // A letter that was redriven and failed again carries these from its first life.
        .filter(|(name, _)| !name.starts_with("kafka_dlt-") && !name.starts_with("x-dlq-"))
        .map(|(name, value)| (name, value.unwrap_or_default()))
        .collect();
    let mut add = |name: &str, value: &[u8]| headers.push((name.to_owned(), value.to_vec()));
    add("kafka_dlt-original-topic", row.topic.as_bytes());
    add("kafka_dlt-original-partition", &row.partition.to_be_bytes());
    add("kafka_dlt-original-offset", &row.offset.to_be_bytes());
    if let Some(millis) = row.record_timestamp {
        add("kafka_dlt-original-timestamp", &millis.to_be_bytes());
    }
    if let Some(kind) = &row.record_timestamp_type {
        add("kafka_dlt-original-timestamp-type", kind.as_bytes());
    }
    add("kafka_dlt-original-consumer-group", row.consumer_group.as_bytes());
    add("kafka_dlt-exception-fqcn", format!("inbox.{}", row.reason).as_bytes());
    let message: String = row.error.chars().take(MESSAGE_CHARS_MAX).collect();
    add("kafka_dlt-exception-message", message.as_bytes());
    add(ID, row.id.to_string().as_bytes());
    add("x-dlq-reason", row.reason.as_bytes());
    add("x-dlq-fingerprint", row.fingerprint.as_bytes());
    // For the tools of others: a record that they send back and that fails again is known by these.
    let origin = Origin::of(row);
    add(ORIGIN, origin.place().as_bytes());
    add(REDRIVE_COUNT, origin.redrive_count.to_string().as_bytes());
    let taken: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let room = record_bytes_max.saturating_sub(taken + row.key.as_ref().map_or(0, Vec::len));
    let mut value = row.value.clone();
    if let Some(value) = &mut value {
        value.truncate(room);
        let sent = i64::try_from(value.len()).unwrap_or(i64::MAX);
        if let Some(whole) = row.value_bytes.filter(|whole| *whole > sent) {
            headers.push(("x-dlq-value-bytes".to_owned(), whole.to_string().into_bytes()));
        }
    }
    Outgoing {
        topic: format!("{}{suffix}", row.topic),
        key: row.key.clone(),
        value,
        headers,
        partition: Some(row.partition),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write as _;

    use super::*;

    pub(crate) fn letter() -> Row {
        Row {
            id: uuid::Uuid::from_u128(7),
            consumer_group: "g".to_owned(),
            topic: "orders".to_owned(),
            partition: 3,
            offset: 258,
            key: Some(b"k".to_vec()),
            value: Some(b"value".to_vec()),
            value_bytes: Some(5),
            headers: serde_json::json!([
                {"name": "ce_type", "utf8": "A"},
                {"name": "binary", "base64": "/wA="},
                {"name": "ce_sequence", "utf8": "12"},
            ]),
            record_timestamp: Some(1),
            record_timestamp_type: Some("CreateTime".to_owned()),
            event_id: None,
            event_type: Some("A".to_owned()),
            reason: "bad".to_owned(),
            fingerprint: "f".to_owned(),
            error: "no good".to_owned(),
            traceparent: None,
            first_id: None,
            redrive_count: 0,
            lacks: None,
        }
    }

    /// Compares a record with a golden file: a line for each part, bytes that are no printable ASCII as `\\x..`.
    pub(crate) fn golden(name: &str, record: &Outgoing) {
        let show =
            |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), |bytes| bytes.escape_ascii().to_string());
        let mut text = String::new();
        writeln!(text, "topic      {}", record.topic).unwrap();
        writeln!(text, "partition  {:?}", record.partition).unwrap();
        writeln!(text, "key        {}", show(record.key.as_deref())).unwrap();
        writeln!(text, "value      {}", show(record.value.as_deref())).unwrap();
        for (name, value) in &record.headers {
            writeln!(text, "header     {name} = {}", show(Some(value))).unwrap();
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, expected, "{} differs from the record", path.display());
    }

    #[test]
    fn the_record_has_springs_headers_in_springs_bytes() {
        golden("dead_letter.txt", &outgoing(&letter(), "-dlt", 1_000));
    }

    #[test]
    fn a_record_that_failed_before_carries_the_marks_of_its_last_failure_only() {
        let mut row = letter();
        row.redrive_count = 2;
        row.headers = serde_json::json!([
            {"name": "kafka_dlt-exception-message", "utf8": "old"}, {"name": "x-dlq-id", "utf8": "old"},
            {"name": "x-dlq-origin", "utf8": "1/99"}, {"name": "x-dlq-redrive-count", "utf8": "2"},
        ]);
        let record = outgoing(&row, "-dlt", 1_000);
        let values_of = |name: &str| -> Vec<&[u8]> {
            record
                .headers
                .iter()
                .filter(|(found, _)| found == name)
                .map(|(_, value)| value.as_slice())
                .collect()
        };
        assert_eq!(values_of("kafka_dlt-exception-message"), [b"no good"]);
        assert_eq!(values_of("x-dlq-id"), [row.id.to_string().as_bytes()]);
        assert_eq!(values_of("x-dlq-origin"), [b"1/99"]);
        assert_eq!(values_of("x-dlq-redrive-count"), [b"2"]);
    }

    #[test]
    fn the_whole_record_has_a_limit_and_says_what_is_missing() {
        let bytes = |record: &Outgoing| {
            let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            headers + record.key.as_ref().unwrap().len() + record.value.as_ref().unwrap().len()
        };
        let whole = outgoing(&letter(), "-dlt", 1_000);
        assert_eq!(whole.value.as_deref(), Some(&b"value"[..]));
        let cut = outgoing(&letter(), "-dlt", bytes(&whole) - 2);
        assert_eq!(cut.value.as_deref(), Some(&b"val"[..]));
        assert_eq!(cut.headers.last(), Some(&("x-dlq-value-bytes".to_owned(), b"5".to_vec())));
    }
}
