//! A dead letter as a record for its original topic, and what such a record says about its earlier lives.
//!
//! Key, value and headers are those of the record that failed, so that it is the same event to every consumer. Two
//! headers more say where the event's first letter stood and how often it was redriven: what fails again is known.

use kafka_client::HeaderIter;

use super::headers::decode;
use super::record::Outgoing;
use crate::store::dead_letter::Row;

/// Id of the letter that the record was.
pub(crate) const ID: &str = "x-dlq-id";
/// `<partition>/<offset>` of the record that became the event's first letter.
pub(crate) const ORIGIN: &str = "x-dlq-origin";
/// How often the event was redriven, this time included.
pub(crate) const REDRIVE_COUNT: &str = "x-dlq-redrive-count";

/// Where a redriven event's first letter stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) redrive_count: i32,
}

impl Origin {
    /// What a record's headers say; nothing unless both are there and sound, since anybody may write such headers.
    pub(crate) fn read(headers: HeaderIter<'_>) -> Option<Self> {
        let text_of = |name: &str| {
            let (_, value) = headers.into_iter().find(|(found, _)| *found == name)?;
            std::str::from_utf8(value?).ok()
        };
        Self::parse(text_of(ORIGIN)?, text_of(REDRIVE_COUNT)?)
    }

    /// Where the event of a stored letter became one for the first time: there, or where the letter itself stood.
    pub(crate) fn of(row: &Row) -> Self {
        let headers = decode(&row.headers);
        let text_of = |name: &str| {
            let (_, value) = headers.iter().find(|(found, _)| found == name)?;
            std::str::from_utf8(value.as_deref()?).ok()
        };
        let first =
            text_of(ORIGIN).zip(text_of(REDRIVE_COUNT)).and_then(|(place, count)| Self::parse(place, count));
        let (partition, offset) =
            first.map_or((row.partition, row.offset), |first| (first.partition, first.offset));
        Self { partition, offset, redrive_count: row.redrive_count }
    }

    /// As [`ORIGIN`] has it.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.partition, self.offset)
    }

    fn parse(place: &str, redrive_count: &str) -> Option<Self> {
        let (partition, offset) = place.split_once('/')?;
        let origin = Self {
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
            redrive_count: redrive_count.parse().ok()?,
        };
        (origin.partition >= 0 && origin.offset >= 0 && origin.redrive_count >= 0).then_some(origin)
    }
}

/// The record of a letter that is redriven; its key decides the partition, as it did the first time.
pub(crate) fn redriven(row: &Row) -> Outgoing {
    let origin = Origin::of(row);
    let mut headers: Vec<(String, Vec<u8>)> = decode(&row.headers)
        .into_iter()
        .filter(|(name, _)| ![ID, ORIGIN, REDRIVE_COUNT].contains(&name.as_str()))
        // A null value means the same as no header to those who read it; the client cannot send one.
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let count = origin.redrive_count.saturating_add(1);
    headers.push((ID.to_owned(), row.id.to_string().into_bytes()));
    headers.push((ORIGIN.to_owned(), origin.place().into_bytes()));
    headers.push((REDRIVE_COUNT.to_owned(), count.to_string().into_bytes()));
    Outgoing {
        topic: row.topic.clone(),
        key: row.key.clone(),
        value: row.value.clone(),
        headers,
        partition: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::record::tests::{golden, letter};

    #[test]
    fn the_record_is_the_one_that_failed_and_says_that_it_was_redriven() {
        golden("redriven.txt", &redriven(&letter()));
    }

    #[test]
    fn a_second_life_names_the_place_of_the_first() {
        let mut row = letter();
        row.redrive_count = 4;
        row.headers = serde_json::json!([
            {"name": "x-dlq-origin", "utf8": "1/99"}, {"name": "null"}, {"name": "x-dlq-redrive-count", "utf8": "4"},
        ]);
        let headers = redriven(&row).headers;
        let text: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap()))
            .collect();
        let id = row.id.to_string();
        assert_eq!(text, [("x-dlq-id", id.as_str()), ("x-dlq-origin", "1/99"), ("x-dlq-redrive-count", "5")]);
    }

    #[test]
    fn a_place_that_nobody_can_have_is_not_believed() {
        let expected = Origin { partition: 3, offset: 258, redrive_count: 2 };
        assert_eq!(Origin::parse("3/258", "2"), Some(expected));
        for (place, count) in
            [("3", "2"), ("/", "2"), ("-3/258", "2"), ("3/-1", "2"), ("3/258", "-2"), ("3/258", "x")]
        {
            assert_eq!(Origin::parse(place, count), None, "{place} {count}");
        }
        assert_eq!(Origin::parse("3/258", "99999999999"), None);
    }
}
