//! A new event and the rules that it must keep, checked before anything is written.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Utc};
use thiserror::Error;
use uuid::Uuid;

/// An event that is to be published when the caller's transaction commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Identity, the same over every resend. Time-sorted (`UUIDv7`) ids are kind to indexes.
    pub event_id: Uuid,
    /// Name of the event, for example `OrderCompleted`.
    pub event_type: Cow<'static, str>,
    /// Kind of the changed aggregate.
    pub aggregate_type: Cow<'static, str>,
    /// The changed aggregate.
    pub aggregate_id: String,
    /// Number of the aggregate's change; `None` where it has no versions.
    pub aggregate_version: Option<i64>,
    /// Full topic name, with the prefix if there is one.
    pub topic: String,
    /// Events of one key are published in the commit order of the writers that serialise on it.
    pub partition_key: String,
    /// Bytes as they go on the wire; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Further record headers. `ce_…`, `content-type` and `traceparent` belong to the relay.
    pub headers: Vec<(String, Vec<u8>)>,
    /// W3C trace context of the request, as it travels in the header.
    pub traceparent: Option<String>,
    /// When it happened, for the event's readers. Order never depends on it.
    pub occurred_at: DateTime<Utc>,
}

/// Limits of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendLimits {
    /// Most bytes of a record: payload, headers, key and names. Must leave room below the broker's
    /// `max.message.bytes` for what the relay adds.
    pub record_bytes_max: usize,
}

impl Default for AppendLimits {
    /// 900 KiB: below the 1 MB that brokers and clients allow by default, with room for headers and framing.
    fn default() -> Self {
        Self { record_bytes_max: 900 * 1024 }
    }
}

/// Why an event cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadEvent {
    /// A field that must not be empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A field with a NUL character, which the database cannot store.
    #[error("{0} holds a NUL character")]
    Nul(&'static str),
    /// Not a name that a broker accepts.
    #[error("topic {0:?} is not a legal name: 1 to 249 of letters, digits, dot, underscore, hyphen")]
    Topic(String),
    /// Larger than the limit.
    #[error("record has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// An unusable header: empty, too long, with a NUL, or a name that belongs to the relay.
    #[error("header {0:?} is not allowed")]
    Header(String),
    /// A time that the event's header cannot express.
    #[error("occurred_at is not in the years 0 to 9999")]
    Time,
}

/// Longest topic name that brokers accept.
const TOPIC_BYTES_MAX: usize = 249;
/// Prefix of the headers that describe the event (`CloudEvents`).
const RESERVED_PREFIX: &str = "ce_";
/// Further headers that the relay writes.
const RESERVED: [&str; 2] = ["content-type", "traceparent"];

impl NewEvent {
    /// Checks that a broker and the database will take it.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, limits: &AppendLimits) -> Result<(), BadEvent> {
        check_name("topic", &self.topic)?;
        check_topic(&self.topic)?;
        check_name("event_type", &self.event_type)?;
        check_name("partition_key", &self.partition_key)?;
        check_text("aggregate_type", &self.aggregate_type)?;
        check_text("aggregate_id", &self.aggregate_id)?;
        check_text("traceparent", self.traceparent.as_deref().unwrap_or_default())?;
        for (name, _) in &self.headers {
            check_header(name)?;
        }
        if !(0..=9999).contains(&self.occurred_at.year()) {
            return Err(BadEvent::Time);
        }
        let bytes = self.record_bytes();
        if bytes > limits.record_bytes_max {
            return Err(BadEvent::TooLarge { bytes, limit: limits.record_bytes_max });
        }
        Ok(())
    }

    fn record_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        headers
            + self.payload.as_ref().map_or(0, Vec::len)
            + self.partition_key.len()
            + self.event_type.len()
            + self.aggregate_type.len()
            + self.aggregate_id.len()
            + self.traceparent.as_ref().map_or(0, String::len)
    }
}

fn check_name(field: &'static str, text: &str) -> Result<(), BadEvent> {
    if text.is_empty() { Err(BadEvent::Empty(field)) } else { check_text(field, text) }
}

fn check_text(field: &'static str, text: &str) -> Result<(), BadEvent> {
    if text.as_bytes().contains(&0) { Err(BadEvent::Nul(field)) } else { Ok(()) }
}

/// A topic that no broker accepts would hold up every event behind it, so it must not get into the table.
fn check_topic(topic: &str) -> Result<(), BadEvent> {
    let legal = topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if legal && topic.len() <= TOPIC_BYTES_MAX && topic != "." && topic != ".." {
        Ok(())
    } else {
        Err(BadEvent::Topic(topic.to_owned()))
    }
}

fn check_header(name: &str) -> Result<(), BadEvent> {
    let reserved = name.starts_with(RESERVED_PREFIX) || RESERVED.contains(&name);
    let storable = !name.is_empty() && u16::try_from(name.len()).is_ok() && !name.as_bytes().contains(&0);
    if storable && !reserved { Ok(()) } else { Err(BadEvent::Header(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> NewEvent {
        NewEvent {
            event_id: Uuid::nil(),
            event_type: "Happened".into(),
            aggregate_type: "thing".into(),
            aggregate_id: "7".to_owned(),
            aggregate_version: Some(1),
            topic: "things".to_owned(),
            partition_key: "7".to_owned(),
            payload: Some(b"{}".to_vec()),
            headers: vec![("tenant".to_owned(), b"a".to_vec())],
            traceparent: None,
            occurred_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_good_event_passes() {
        assert_eq!(event().check(&AppendLimits::default()), Ok(()));
    }

    #[test]
    fn each_broken_rule_is_named() {
        type Break = fn(&mut NewEvent);
        let cases: [(Break, BadEvent); 13] = [
            (|event| event.topic = String::new(), BadEvent::Empty("topic")),
            (|event| event.event_type = "".into(), BadEvent::Empty("event_type")),
            (|event| event.partition_key = String::new(), BadEvent::Empty("partition_key")),
            (|event| event.partition_key = "a\0".to_owned(), BadEvent::Nul("partition_key")),
            (|event| event.event_type = "\0".into(), BadEvent::Nul("event_type")),
            (|event| event.aggregate_type = "\0".into(), BadEvent::Nul("aggregate_type")),
            (|event| event.aggregate_id = "\0".to_owned(), BadEvent::Nul("aggregate_id")),
            (|event| event.traceparent = Some("\0".to_owned()), BadEvent::Nul("traceparent")),
            (|event| event.topic = "a b".to_owned(), BadEvent::Topic("a b".to_owned())),
            (|event| event.topic = "..".to_owned(), BadEvent::Topic("..".to_owned())),
            (|event| event.headers[0].0 = "ce_id".to_owned(), BadEvent::Header("ce_id".to_owned())),
            (|event| event.headers[0].0 = String::new(), BadEvent::Header(String::new())),
            (|event| event.occurred_at = DateTime::<Utc>::MAX_UTC, BadEvent::Time),
        ];
        for (breaking, expected) in cases {
            let mut event = event();
            breaking(&mut event);
            assert_eq!(event.check(&AppendLimits::default()), Err(expected));
        }
    }

    #[test]
    fn the_size_limit_counts_payload_headers_and_names() {
        let mut event = event();
        let names = event.record_bytes() - 2;
        event.payload = Some(vec![b'x'; 100]);
        let limits = AppendLimits { record_bytes_max: names + 100 };
        assert_eq!(event.check(&limits), Ok(()));
        event.headers[0].1.push(b'a');
        let bytes = names + 101;
        assert_eq!(event.check(&limits), Err(BadEvent::TooLarge { bytes, limit: names + 100 }));
    }
}
