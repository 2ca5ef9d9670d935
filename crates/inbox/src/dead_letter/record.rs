//! A dead letter as a record on its topic, with the headers of Spring Kafka so that its tools know it.

use super::headers::decode;
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
    /// The number that the partition had in the original topic.
    pub(crate) partition: i32,
}

/// Characters of the error in a header.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// The record of a dead letter; values are cut at `value_bytes_max`, and a header says so.
pub(crate) fn outgoing(row: &Row, suffix: &str, value_bytes_max: usize) -> Outgoing {
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
    add("x-dlq-id", row.id.to_string().as_bytes());
    add("x-dlq-reason", row.reason.as_bytes());
    add("x-dlq-fingerprint", row.fingerprint.as_bytes());
    let mut value = row.value.clone();
    if let Some(value) = &mut value {
        value.truncate(value_bytes_max);
        let sent = i64::try_from(value.len()).unwrap_or(i64::MAX);
        if let Some(whole) = row.value_bytes.filter(|whole| *whole > sent) {
            add("x-dlq-value-bytes", whole.to_string().as_bytes());
        }
    }
    Outgoing {
        topic: format!("{}{suffix}", row.topic),
        key: row.key.clone(),
        value,
        headers,
        partition: row.partition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_has_springs_headers_in_springs_bytes() {
        let row = Row {
            id: uuid::Uuid::from_u128(7),
            consumer_group: "g".to_owned(),
            topic: "orders".to_owned(),
            partition: 3,
            offset: 258,
            key: Some(b"k".to_vec()),
            value: Some(b"value".to_vec()),
            value_bytes: Some(5),
            headers: serde_json::json!([{"name": "ce_type", "utf8": "A"}, {"name": "x-dlq-id", "utf8": "old"}]),
            record_timestamp: Some(1),
            record_timestamp_type: Some("CreateTime".to_owned()),
            event_id: None,
            event_type: Some("A".to_owned()),
            reason: "bad".to_owned(),
            fingerprint: "f".to_owned(),
            error: "no good".to_owned(),
            traceparent: None,
        };
        let record = outgoing(&row, "-dlt", 3);
        assert_eq!((record.topic.as_str(), record.partition), ("orders-dlt", 3));
        assert_eq!(record.value.as_deref(), Some(&b"val"[..]));
        let expected: [(&str, &[u8]); 13] = [
            ("ce_type", b"A"),
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
            ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 2]),
            ("kafka_dlt-original-timestamp", &[0, 0, 0, 0, 0, 0, 0, 1]),
            ("kafka_dlt-original-timestamp-type", b"CreateTime"),
            ("kafka_dlt-original-consumer-group", b"g"),
            ("kafka_dlt-exception-fqcn", b"inbox.bad"),
            ("kafka_dlt-exception-message", b"no good"),
            ("x-dlq-id", b"00000000-0000-0000-0000-000000000007"),
            ("x-dlq-reason", b"bad"),
            ("x-dlq-fingerprint", b"f"),
            ("x-dlq-value-bytes", b"5"),
        ];
        let actual: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(actual, expected);
    }
}
