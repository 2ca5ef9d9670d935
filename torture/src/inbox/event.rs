//! What is produced: events that carry what they do, and how their records look.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use uuid::Uuid;

/// Topic of the events, without prefix.
pub(crate) const TOPIC: &str = "events";
/// Partitions of the topic: enough that each of four members has some to give away.
pub(crate) const PARTITIONS: i32 = 12;
/// Rows that all partitions write to.
pub(crate) const PRODUCTS: i64 = 24;
/// The producer whose events are known by a sequence.
pub(crate) const SOURCE: &str = "urn:outbox:torture";

/// What is wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Good,
    /// Cannot be decoded, until the projection is mended.
    Bad,
    /// Is refused by the database, until its rule is dropped.
    Forbidden,
}

/// One event; the text of it is the record's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    /// `None`: a foreign producer's, known by its id.
    pub(crate) sequence: Option<u64>,
    /// The key; its states follow each other by version.
    pub(crate) key: i64,
    pub(crate) version: i64,
    /// A counter that many keys share.
    pub(crate) product: i64,
    pub(crate) amount: i64,
    pub(crate) kind: Kind,
}

impl Event {
    /// Names and values of the record's headers.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("ce_type", "Tortured".to_owned()), ("ce_id", self.id.to_string())];
        if let Some(sequence) = self.sequence {
            headers.push(("ce_source", SOURCE.to_owned()));
            headers.push(("ce_sequence", sequence.to_string()));
        }
        headers
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Good => "good",
            Kind::Bad => "bad",
            Kind::Forbidden => "forbidden",
        };
        let Self { id, key, version, product, amount, .. } = self;
        write!(formatter, "{kind} {id} {key} {version} {product} {amount}")
    }
}

impl FromStr for Event {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [kind, id, key, version, product, amount] = parts[..] else {
            anyhow::bail!("'{text}' has not six parts")
        };
        let kind = match kind {
            "good" => Kind::Good,
            "bad" => Kind::Bad,
            "forbidden" => Kind::Forbidden,
            other => anyhow::bail!("'{other}' is no kind"),
        };
        let number = |part: &str| part.parse().with_context(|| format!("'{part}' in '{text}'"));
        Ok(Self {
            id: id.parse()?,
            sequence: None,
            key: number(key)?,
            version: number(version)?,
            product: number(product)?,
            amount: number(amount)?,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_its_text() {
        let event = Event {
            id: Uuid::from_u128(7),
            sequence: None,
            key: 3,
            version: 2,
            product: 5,
            amount: 11,
            kind: Kind::Forbidden,
        };
        assert_eq!(event.to_string().parse::<Event>().unwrap(), event);
        assert!("good".parse::<Event>().is_err());
    }
}
