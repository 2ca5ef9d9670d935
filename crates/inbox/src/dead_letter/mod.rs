//! Records that can never succeed: their row, their record on the topic for dead letters, and how operators bring them
//! back.

mod action;
mod discard;
mod filter;
mod fingerprint;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod headers;
mod inquiry;
mod letter;
mod publisher;
mod record;
mod redrive;
mod redriven;
mod sender;
mod walk;

pub use action::{ActionError, ActionReport, Mandate, MandateError, Obstacle};
pub use discard::{discard, preview_discard};
pub use filter::{LetterFilter, LetterStatus, UnknownStatus};
pub(crate) use headers::decode as stored_headers;
pub use inquiry::{
    AuditEntry, Letter, LetterContent, LetterDepth, LetterGroup, LetterPlace, LetterStory, WholeLetter,
    clock, connect, count_letters, find_story, group_letters, letter_depths, list_letters,
    list_whole_letters,
};
pub(crate) use letter::{Cause, record_time, row};
pub use publisher::{DeadLetterPublisher, PublisherSettings};
#[cfg(test)]
pub(crate) use record::tests::letter as sample_letter;
pub use redrive::{RedriveSettings, Selection, preview_redrive, redrive};
pub use sender::SenderError;
