//! The headers of records, as types for their schemas only: crates `outbox` and `inbox` write and read them.
//!
//! A header is bytes. Here it is the text that they are, or base64 where they are a number.

use schemars::JsonSchema;

/// CloudEvents 1.0 in binary mode. There may be other headers.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct EventHeaders {
    /// Version of CloudEvents.
    #[schemars(rename = "ce_specversion", extend("const" = "1.0"))]
    specversion: String,
    /// Identity of the event, a `UUIDv7`: the same whenever the event comes again. Readers tell duplicates by it.
    #[schemars(rename = "ce_id")]
    #[schemars(regex(pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"))]
    id: String,
    /// The event type; without a version it is version 1.
    #[schemars(rename = "ce_type", regex(pattern = "^[A-Za-z]+([.]v[0-9]+)?$"))]
    event_type: String,
    /// The database and its history: system identifier and timeline. Unique together with `ce_sequence` as well.
    #[schemars(rename = "ce_source", regex(pattern = "^urn:outbox:[0-9]+:[0-9]+$"))]
    source: String,
    /// When it happened: RFC 3339, UTC, microseconds. It says nothing about order.
    #[schemars(rename = "ce_time")]
    #[schemars(regex(pattern = "^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}[.][0-9]{6}Z$"))]
    time: String,
    /// Number of the event in its source. It grows within a key, with gaps.
    #[schemars(rename = "ce_sequence", regex(pattern = "^[1-9][0-9]{0,18}$"))]
    sequence: String,
    /// What the payload is.
    #[schemars(rename = "content-type", extend("const" = "application/json"))]
    content_type: String,
    /// W3C trace context of the request, if it had one.
    #[schemars(regex(pattern = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"))]
    traceparent: Option<String>,
    /// If it was redriven: id of the dead letter that it was.
    #[schemars(rename = "x-dlq-id", regex(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    letter: Option<String>,
    /// If it was redriven: `<partition>/<offset>` of the record that became the event's first dead letter.
    #[schemars(rename = "x-dlq-origin", regex(pattern = "^[0-9]+/[0-9]+$"))]
    origin: Option<String>,
    /// If it was redriven: how often.
    #[schemars(rename = "x-dlq-redrive-count", regex(pattern = "^[0-9]+$"))]
    redrive_count: Option<String>,
}

/// Beside them stand the headers of the record that failed. Those of `kafka_dlt-` are as Spring Kafka writes them.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct DeadLetterHeaders {
    /// Where the record was.
    #[schemars(rename = "kafka_dlt-original-topic")]
    topic: String,
    /// The partition there: 4 bytes, big-endian.
    #[schemars(rename = "kafka_dlt-original-partition", length(equal = 8))]
    #[schemars(extend("contentEncoding" = "base64"))]
    partition: String,
    /// The offset there: 8 bytes, big-endian.
    #[schemars(rename = "kafka_dlt-original-offset", length(equal = 12))]
    #[schemars(extend("contentEncoding" = "base64"))]
    offset: String,
    /// The record's timestamp, if it had one: milliseconds since 1970 in 8 bytes, big-endian.
    #[schemars(rename = "kafka_dlt-original-timestamp", length(equal = 12))]
    #[schemars(extend("contentEncoding" = "base64"))]
    timestamp: Option<String>,
    /// Who stamped it: `CreateTime` the producer, `LogAppendTime` the broker.
    #[schemars(
        rename = "kafka_dlt-original-timestamp-type",
        regex(pattern = "^(CreateTime|LogAppendTime)$")
    )]
    timestamp_type: Option<String>,
    /// The group that refused the record.
    #[schemars(rename = "kafka_dlt-original-consumer-group")]
    group: String,
    /// `inbox.` and the reason.
    #[schemars(rename = "kafka_dlt-exception-fqcn", regex(pattern = "^inbox[.][a-z_]+$"))]
    exception: String,
    /// What was wrong.
    #[schemars(rename = "kafka_dlt-exception-message")]
    message: String,
    /// Id of the dead letter, made of group, topic, partition and offset.
    #[schemars(rename = "x-dlq-id", regex(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    id: String,
    /// Why the record was refused: a stable word.
    #[schemars(rename = "x-dlq-reason", regex(pattern = "^[a-z_]+$"))]
    reason: String,
    /// The same for dead letters of one cause.
    #[schemars(rename = "x-dlq-fingerprint", regex(pattern = "^[0-9a-f]+$"))]
    fingerprint: String,
    /// `<partition>/<offset>` of the record that became the event's first dead letter.
    #[schemars(rename = "x-dlq-origin", regex(pattern = "^[0-9]+/[0-9]+$"))]
    origin: String,
    /// How often the event was redriven.
    #[schemars(rename = "x-dlq-redrive-count", regex(pattern = "^[0-9]+$"))]
    redrive_count: String,
    /// Bytes of the whole value, if what is here was cut.
    #[schemars(rename = "x-dlq-value-bytes", regex(pattern = "^[0-9]+$"))]
    value_bytes: Option<String>,
}
