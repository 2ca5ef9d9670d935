//! Which dead letters an operator means. Every condition is an exact comparison with a bound value.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use thiserror::Error;
use uuid::Uuid;

use super::headers::clean;

/// Where a dead letter is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LetterStatus {
    /// Not yet on its topic.
    New,
    /// On its topic, and waiting for an operator.
    Published,
    /// Waits behind an earlier letter of its key; its projection is strict about their order.
    Blocked,
    /// Had its effect when its turn came.
    Released,
    /// Sent to its original topic again, or given to the consumer if its projection is strict. If it fails once more, that
    /// is a letter of its own, or it is new again if its projection is strict.
    Redriven,
    /// Given up by an operator.
    Discarded,
}

impl LetterStatus {
    /// Those that an operator is to deal with.
    pub const OPEN: [Self; 2] = [Self::New, Self::Published];
    /// Those whose event has not had its effect and is not given up.
    pub const WAITING: [Self; 3] = [Self::New, Self::Published, Self::Blocked];
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::New, Self::Published, Self::Blocked, Self::Released, Self::Redriven, Self::Discarded];

    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Published => "published",
            Self::Blocked => "blocked",
            Self::Released => "released",
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

impl fmt::Display for LetterStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A status that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is no status of a dead letter: new, published, blocked, released, redriven, discarded")]
pub struct UnknownStatus(String);

impl FromStr for LetterStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

impl TryFrom<String> for LetterStatus {
    type Error = UnknownStatus;

    fn try_from(text: String) -> Result<Self, UnknownStatus> {
        text.parse()
    }
}

/// Conditions that all must hold; those that are empty or `None` hold for every letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterFilter {
    /// One of these letters.
    pub ids: Vec<Uuid>,
    /// One of these consumer groups, by full name.
    pub groups: Vec<String>,
    /// From one of these topics, by full name.
    pub topics: Vec<String>,
    /// Of this event type.
    pub event_type: Option<String>,
    /// Set aside for this reason.
    pub reason: Option<String>,
    /// Of this cause.
    pub fingerprint: Option<String>,
    /// With exactly this key.
    pub key: Option<Vec<u8>>,
    /// Set aside then or later.
    pub since: Option<DateTime<Utc>>,
    /// Set aside before.
    pub until: Option<DateTime<Utc>>,
    /// In one of these states; open ones unless said otherwise.
    pub statuses: Vec<LetterStatus>,
}

impl Default for LetterFilter {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            groups: Vec::new(),
            topics: Vec::new(),
            event_type: None,
            reason: None,
            fingerprint: None,
            key: None,
            since: None,
            until: None,
            statuses: LetterStatus::OPEN.to_vec(),
        }
    }
}

impl LetterFilter {
    /// Whether a letter's state is the only condition, so that every letter in it is meant.
    #[must_use]
    pub fn means_everything(&self) -> bool {
        *self == Self { statuses: self.statuses.clone(), ..Self::default() }
    }

    /// As the database takes it: texts are compared with what was stored, which has no NUL.
    pub(crate) fn cleaned(&self) -> Self {
        let clean_all = |texts: &[String]| texts.iter().map(|text| clean(text)).collect();
        Self {
            groups: clean_all(&self.groups),
            topics: clean_all(&self.topics),
            event_type: self.event_type.as_deref().map(clean),
            reason: self.reason.as_deref().map(clean),
            fingerprint: self.fingerprint.as_deref().map(clean),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_is_written() {
        for status in LetterStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("New'; drop table".parse::<LetterStatus>().is_err());
    }

    #[test]
    fn any_condition_but_the_state_narrows_the_filter() {
        let all = LetterFilter { statuses: LetterStatus::ALL.to_vec(), ..LetterFilter::default() };
        assert!(all.means_everything());
        assert!(!LetterFilter { key: Some(Vec::new()), ..all.clone() }.means_everything());
        assert!(!LetterFilter { topics: vec!["t".to_owned()], ..all }.means_everything());
    }
}
