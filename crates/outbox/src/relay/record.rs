//! An event as a record: `CloudEvents` 1.0 in binary mode.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, Timelike, Utc};
use kafka_client::OutgoingRecord;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::headers::{EVENT_ID, UnreadableHeaders, decode_into};
use crate::store::window::{History, StoredEvent};

/// Turns events into records, reusing its buffers.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    event_id: [u8; Hyphenated::LENGTH],
    sequence: String,
    time: String,
    /// `ce_source` of the last event: all of a database have the same until it is restored or fails over.
    source: Option<(History, String)>,
}

impl RecordWriter {
    pub(crate) fn new() -> Self {
        Self { event_id: [0; Hyphenated::LENGTH], sequence: String::new(), time: String::new(), source: None }
    }

    /// Hands the event's record to `send`.
    ///
    /// # Errors
    /// Stored headers that are not readable.
    pub(crate) fn write<T>(
        &mut self,
        event: &StoredEvent<'_>,
        send: impl FnOnce(&OutgoingRecord<'_>) -> T,
    ) -> Result<T, UnreadableHeaders> {
        let Self { event_id, sequence, time, source } = self;
        let source = match source {
            Some((history, source)) if *history == event.history => source,
            other => &other.insert((event.history, source_of(event.history))).1,
        };
        sequence.clear();
        // Writing to a string cannot fail.
        let _ = write!(sequence, "{}", event.id);
        write_time(time, event.occurred_at);
        let standard: [(&str, &[u8]); 8] = [
            ("ce_specversion", b"1.0"),
            (EVENT_ID, encode_id(event.event_id, event_id)),
            ("ce_type", event.event_type.as_bytes()),
            ("ce_source", source.as_bytes()),
            ("ce_time", time.as_bytes()),
            ("ce_sequence", sequence.as_bytes()),
            ("content-type", b"application/json"),
            ("traceparent", event.traceparent.unwrap_or_default().as_bytes()),
        ];
        let standard = if event.traceparent.is_some() { &standard[..] } else { &standard[..7] };
        let mut all = Vec::new();
        let headers = match event.headers {
            None => standard,
            Some(stored) => {
                all.extend_from_slice(standard);
                decode_into(stored, &mut all)?;
                &all
            }
        };
        Ok(send(&OutgoingRecord {
            topic: event.topic,
            key: Some(event.partition_key.as_bytes()),
            payload: event.payload,
            headers,
            partition: None,
            timestamp: None,
        }))
    }
}

/// `ce_source`: the outbox and the history in which an event's id was handed out.
pub(crate) fn source_of(history: History) -> String {
    format!("urn:outbox:{}:{}", history.system_identifier.cast_unsigned(), history.timeline)
}

fn encode_id(id: Uuid, buffer: &mut [u8; Hyphenated::LENGTH]) -> &[u8] {
    id.hyphenated().encode_lower(buffer).as_bytes()
}

/// RFC 3339 with microseconds. By digits, because the library's general formatting costs as much as all else here.
fn write_time(text: &mut String, time: DateTime<Utc>) {
    let time = time.naive_utc();
    text.clear();
    push_digits(text, time.year().unsigned_abs(), 1_000);
    for (separator, number) in [
        ('-', time.month()),
        ('-', time.day()),
        ('T', time.hour()),
        (':', time.minute()),
        (':', time.second()),
    ] {
        text.push(separator);
        push_digits(text, number, 10);
    }
    text.push('.');
    push_digits(text, time.nanosecond() / 1_000, 100_000);
    text.push('Z');
}

/// Appends decimal digits from the place `unit` down.
fn push_digits(text: &mut String, number: u32, mut unit: u32) {
    while unit > 0 {
        text.push(char::from_digit(number / unit % 10, 10).unwrap_or('0'));
        unit /= 10;
    }
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    use super::*;

    fn event<'a>() -> StoredEvent<'a> {
        StoredEvent {
            id: 42,
            event_id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00ff),
            history: History { system_identifier: -1, timeline: 3 },
            event_type: "Happened",
            topic: "things",
            partition_key: "7",
            payload: None,
            headers: None,
            traceparent: None,
            occurred_at: DateTime::UNIX_EPOCH,
        }
    }

    fn headers_of(event: &StoredEvent<'_>) -> Vec<(String, String)> {
        RecordWriter::new()
            .write(event, |record| {
                record
                    .headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into_owned()))
                    .collect()
            })
            .unwrap()
    }

    #[test]
    fn an_event_travels_with_its_description() {
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_id", "01900000-0000-7000-8000-0000000000ff"),
            ("ce_type", "Happened"),
            ("ce_source", "urn:outbox:18446744073709551615:3"),
            ("ce_time", "1970-01-01T00:00:00.000000Z"),
            ("ce_sequence", "42"),
            ("content-type", "application/json"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers_of(&event()), expected);
    }

    #[test]
    fn the_source_follows_the_history_of_each_event() {
        let mut writer = RecordWriter::new();
        let mut source = |timeline| {
            let history = History { system_identifier: 5, timeline };
            let event = StoredEvent { history, ..event() };
            writer.write(&event, |record| String::from_utf8_lossy(record.headers[3].1).into_owned()).unwrap()
        };
        assert_eq!(
            [1, 1, 2, 1].map(&mut source),
            ["urn:outbox:5:1", "urn:outbox:5:1", "urn:outbox:5:2", "urn:outbox:5:1"]
        );
    }

    #[test]
    fn trace_context_and_own_headers_come_last() {
        let stored = crate::headers::encode(&[("tenant".to_owned(), b"a".to_vec())]).unwrap().unwrap();
        let event = StoredEvent { traceparent: Some("00-1-2-01"), headers: Some(&stored), ..event() };
        let headers = headers_of(&event);
        assert_eq!(headers[7], ("traceparent".to_owned(), "00-1-2-01".to_owned()));
        assert_eq!(headers[8], ("tenant".to_owned(), "a".to_owned()));
    }

    #[test]
    fn unreadable_stored_headers_are_an_error() {
        let event = StoredEvent { headers: Some(&[0]), ..event() };
        assert!(RecordWriter::new().write(&event, |_| ()).is_err());
    }

    proptest! {
        #[test]
        fn the_time_is_written_as_rfc_3339(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            let mut text = String::from("old");
            write_time(&mut text, time);
            prop_assert_eq!(text, time.to_rfc3339_opts(SecondsFormat::Micros, true));
        }
    }
}
