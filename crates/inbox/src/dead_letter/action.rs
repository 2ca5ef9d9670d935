//! What redriving and discarding have in common: who asks, which letters can be acted on, what came of it. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use kafka_client::admin::AdminError;
use thiserror::Error;
use uuid::Uuid;

use super::filter::LetterStatus;
use super::headers::clean;
use super::sender::{SenderError, Unsent};
use crate::store::letter_actions::{LetterState, Turn};

/// Who acts, and why: written beside every change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mandate {
    operation_id: Uuid,
    by: String,
    why: String,
}

/// A mandate that says too little or too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MandateError {
    /// Nobody.
    #[error("name must have 1 to {} characters", Mandate::BY_CHARS_MAX)]
    By,
    /// For nothing.
    #[error("reason must have 1 to {} characters", Mandate::WHY_CHARS_MAX)]
    Why,
}

impl Mandate {
    /// Characters of a name.
    pub const BY_CHARS_MAX: usize = 200;
    /// Characters of a reason.
    pub const WHY_CHARS_MAX: usize = 1_000;

    /// `operation_id` is shared by all letters of one call.
    ///
    /// # Errors
    /// Texts that are blank or too long.
    pub fn new(operation_id: Uuid, by: &str, why: &str) -> Result<Self, MandateError> {
        let checked = |text: &str, chars_max: usize| {
            let text = clean(text.trim());
            (1..=chars_max).contains(&text.chars().count()).then_some(text)
        };
        let by = checked(by, Self::BY_CHARS_MAX).ok_or(MandateError::By)?;
        let why = checked(why, Self::WHY_CHARS_MAX).ok_or(MandateError::Why)?;
        Ok(Self { operation_id, by, why })
    }

    pub(crate) fn operation_id(&self) -> Uuid {
        self.operation_id
    }

    pub(crate) fn by(&self) -> &str {
        &self.by
    }

    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

/// Why a letter was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Obstacle {
    /// Somebody else acted on it, or it is in a state in which the action makes no sense.
    #[error("it is {0}")]
    State(LetterStatus),
    /// An earlier letter of its key has not been dealt with.
    #[error("it waits behind an earlier letter of its key: deal with that one, and this one has its effect")]
    Blocked,
    /// Redriving it would apply it out of the order of its key.
    #[error("later events of its key have had their effect, and its projection is strict about their order")]
    Passed,
    /// The record is longer than what is kept of it.
    #[error("its record is not stored whole: {0} is missing or cut")]
    Incomplete(String),
    /// The loop guard.
    #[error("it was redriven {count} times and failed again; the limit is {limit}")]
    Loop {
        /// Redrives of its event.
        count: i32,
        /// As many are allowed.
        limit: u32,
    },
    /// The original topic is gone.
    #[error("topic {0} does not exist")]
    NoTopic(String),
    /// The brokers refuse the record for good.
    #[error("{0}")]
    Refused(String),
}

impl Obstacle {
    /// A name with few values, to count by.
    #[must_use]
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::State(_) => "state",
            Self::Blocked => "blocked",
            Self::Passed => "passed",
            Self::Incomplete(_) => "incomplete",
            Self::Loop { .. } => "loop",
            Self::NoTopic(_) => "no_topic",
            Self::Refused(_) => "refused",
        }
    }
}

/// What is in the way of redriving a letter.
pub(crate) fn judge_redrive(
    state: &LetterState,
    statuses: &[LetterStatus],
    redrives_max: u32,
) -> Option<Obstacle> {
    if !statuses.contains(&state.status) {
        return Some(Obstacle::State(state.status));
    }
    match (state.turn, state.status) {
        (Turn::Passed, _) => return Some(Obstacle::Passed),
        (Turn::Queued, LetterStatus::Blocked) => return Some(Obstacle::Blocked),
        // It is asked for already.
        (Turn::Queued, LetterStatus::Redriven) => return Some(Obstacle::State(state.status)),
        (Turn::Free | Turn::Queued, _) => {}
    }
    if let Some(lacks) = &state.lacks {
        return Some(Obstacle::Incomplete(lacks.clone()));
    }
    let count = state.redrive_count;
    // A count below zero does not fit and is as bad as one that is too high.
    let is_allowed = u32::try_from(count).is_ok_and(|count| count < redrives_max);
    (!is_allowed).then_some(Obstacle::Loop { count, limit: redrives_max })
}

/// What is in the way of discarding a letter. One that waits behind another can be given up, too.
pub(crate) fn judge_discard(state: &LetterState) -> Option<Obstacle> {
    (!LetterStatus::WAITING.contains(&state.status)).then_some(Obstacle::State(state.status))
}

/// Letters that were left as they are and are named one by one; of more, only the number is told.
const LEFT_NAMED_MAX: usize = 100;

/// What came of an action so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActionReport {
    /// Letters that matched at the beginning.
    pub matched: u64,
    /// Letters that were changed; of a dry run, that would be.
    pub done: u64,
    /// Letters that were left as they are, by [`Obstacle::slug`].
    pub left: BTreeMap<&'static str, u64>,
    /// The first hundred of them.
    pub left_letters: Vec<(Uuid, Obstacle)>,
    /// Whether somebody asked to stop before the end.
    pub is_stopped: bool,
}

impl ActionReport {
    pub(crate) fn leave(&mut self, id: Uuid, obstacle: Obstacle) {
        *self.left.entry(obstacle.slug()).or_default() += 1;
        if self.left_letters.len() < LEFT_NAMED_MAX {
            self.left_letters.push((id, obstacle));
        }
    }

    /// Letters that were looked at.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.done + self.left.values().sum::<u64>()
    }
}

/// Why an action ended early. What it did until then stays; the same call again goes on with the rest.
#[derive(Debug, Error)]
pub enum ActionError {
    /// A database that is away.
    #[error("database failed")]
    Database(#[from] sqlx::Error),
    /// Fewer rows than were locked: a bug, or a rule of the database's owner.
    #[error("{changed} of {locked} locked letters could be changed")]
    Rows {
        /// Rows with their audit.
        changed: u64,
        /// Rows before.
        locked: usize,
    },
    /// The client library does not take the settings.
    #[error("letters cannot be sent")]
    Sender(#[from] SenderError),
    /// The brokers do not say whether a topic exists.
    #[error("brokers do not tell the partitions of topic {topic}")]
    Partitions {
        /// The topic.
        topic: String,
        /// The client's words.
        #[source]
        source: AdminError,
    },
    /// Nothing of the last chunk was written down; some of its records may be stored, and will be counted once.
    #[error("brokers did not store the records: {0}")]
    Unsent(String),
}

impl ActionError {
    pub(crate) fn unsent(error: &Unsent) -> Self {
        Self::Unsent(crate::engine::failure::chain(error))
    }
}

/// Keeps an action below a number of letters a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) letters_per_second: Option<NonZeroU32>,
}

impl Pace {
    /// Letters of a chunk: a quarter of a second's, so that the rate holds over any second.
    pub(crate) fn chunk_letters(self, letters_max: NonZeroU32) -> u32 {
        let letters_max = letters_max.get();
        self.letters_per_second.map_or(letters_max, |rate| (rate.get() / 4).clamp(1, letters_max))
    }

    /// How long to wait when `done` letters took `elapsed`.
    pub(crate) fn pause(self, done: u64, elapsed: Duration) -> Duration {
        let Some(rate) = self.letters_per_second else { return Duration::ZERO };
        let due = Duration::from_nanos(done.saturating_mul(1_000_000_000) / u64::from(rate.get()));
        due.saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: LetterStatus, redrive_count: i32, lacks: Option<&str>) -> LetterState {
        let lacks = lacks.map(str::to_owned);
        LetterState { id: Uuid::nil(), status, redrive_count, lacks, turn: Turn::Free }
    }

    #[test]
    fn a_letter_that_has_a_turn_is_redriven_only_when_it_is_the_first() {
        let judge = |turn, status| {
            let state = LetterState { turn, ..state(status, 0, None) };
            judge_redrive(&state, &LetterStatus::ALL, 3).map(|obstacle| obstacle.slug())
        };
        assert_eq!(judge(Turn::Queued, LetterStatus::New), None);
        assert_eq!(judge(Turn::Queued, LetterStatus::Published), None);
        assert_eq!(judge(Turn::Queued, LetterStatus::Discarded), None);
        assert_eq!(judge(Turn::Queued, LetterStatus::Blocked), Some("blocked"));
        assert_eq!(judge(Turn::Queued, LetterStatus::Redriven), Some("state"));
        for status in LetterStatus::ALL {
            assert_eq!(judge(Turn::Passed, status), Some("passed"), "{status}");
        }
    }

    #[test]
    fn only_whole_letters_in_the_right_state_are_redriven_and_not_for_ever() {
        let judge = |state| judge_redrive(&state, &LetterStatus::OPEN, 3).map(|obstacle| obstacle.slug());
        assert_eq!(judge(state(LetterStatus::New, 0, None)), None);
        assert_eq!(judge(state(LetterStatus::Published, 2, None)), None);
        assert_eq!(judge(state(LetterStatus::Published, 3, None)), Some("loop"));
        assert_eq!(judge(state(LetterStatus::Published, i32::MAX, None)), Some("loop"));
        assert_eq!(judge(state(LetterStatus::Published, -1, None)), Some("loop"));
        assert_eq!(judge(state(LetterStatus::Published, 0, Some("value"))), Some("incomplete"));
        assert_eq!(judge(state(LetterStatus::Redriven, 0, None)), Some("state"));
        assert_eq!(judge(state(LetterStatus::Discarded, 0, None)), Some("state"));
        let asked = judge_redrive(&state(LetterStatus::Discarded, 0, None), &LetterStatus::ALL, 3);
        assert_eq!(asked, None);
    }

    #[test]
    fn only_letters_that_wait_are_discarded() {
        for status in LetterStatus::ALL {
            let is_free = judge_discard(&state(status, 99, Some("value"))).is_none();
            assert_eq!(is_free, LetterStatus::WAITING.contains(&status), "{status}");
        }
    }

    #[test]
    fn who_and_why_have_a_length() {
        let new = |by: &str, why: &str| Mandate::new(Uuid::nil(), by, why).err();
        assert_eq!(new(" ada ", "fixed in \0 1.2"), None);
        assert_eq!(new(" ", "why"), Some(MandateError::By));
        assert_eq!(new("ada", "\n\t"), Some(MandateError::Why));
        assert_eq!(new(&"ü".repeat(200), &"ü".repeat(1_000)), None);
        assert_eq!(new(&"ü".repeat(201), "why"), Some(MandateError::By));
        assert_eq!(new("ada", &"ü".repeat(1_001)), Some(MandateError::Why));
    }

    #[test]
    fn a_report_names_the_first_hundred_letters_and_counts_all() {
        let mut report = ActionReport { done: 7, ..ActionReport::default() };
        for _ in 0..LEFT_NAMED_MAX + 1 {
            report.leave(Uuid::nil(), Obstacle::State(LetterStatus::Redriven));
        }
        assert_eq!((report.left["state"], report.left_letters.len(), report.seen()), (101, 100, 108));
    }

    #[test]
    fn the_pace_is_kept_from_the_beginning() {
        let pace = Pace { letters_per_second: NonZeroU32::new(100) };
        let letters = |count| NonZeroU32::new(count).unwrap();
        assert_eq!((pace.chunk_letters(letters(500)), pace.chunk_letters(letters(10))), (25, 10));
        assert_eq!(pace.pause(50, Duration::from_millis(200)), Duration::from_millis(300));
        assert_eq!(pace.pause(50, Duration::from_secs(9)), Duration::ZERO);
        let slow = Pace { letters_per_second: NonZeroU32::new(1) };
        assert_eq!(
            (slow.chunk_letters(letters(500)), slow.pause(3, Duration::ZERO)),
            (1, Duration::from_secs(3))
        );
        let free = Pace { letters_per_second: None };
        assert_eq!(
            (free.chunk_letters(letters(500)), free.pause(u64::MAX, Duration::ZERO)),
            (500, Duration::ZERO)
        );
    }
}
