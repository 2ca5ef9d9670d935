//! The consumer as it is, and ten that are wrong.

use std::fmt;

use clap::ValueEnum;

use super::mix::Mix;

/// Which consumer is tortured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// The consumer of the inbox, with a projection that keeps its rules.
    Right,
    /// Writes whoever owns the partition.
    NoFence,
    /// Commits its position before the effect.
    PositionFirst,
    /// Invalidates after the commit only, so that what is read again, a duplicate, is never invalidated.
    NoIntent,
    /// Replaces a state by an older version.
    NoVersionGuard,
    /// Marks dead letters as published before the broker has them.
    LetterNotAwaited,
    /// Writes rows that partitions share in the order of arrival.
    Unsorted,
    /// Remembers dead letters as handled.
    LettersHandled,
    /// Stores an offset that is one too high.
    OffsetOffByOne,
    /// Applies events of a strict projection although an earlier one of their key waits.
    NothingWaits,
    /// Goes on behind a letter that fails in its turn.
    ReleaseOvertakes,
}

impl Variant {
    /// Every wrong consumer.
    pub const WRONG: [Self; 10] = [
        Self::NoFence,
        Self::PositionFirst,
        Self::NoIntent,
        Self::NoVersionGuard,
        Self::LetterNotAwaited,
        Self::Unsorted,
        Self::LettersHandled,
        Self::OffsetOffByOne,
        Self::NothingWaits,
        Self::ReleaseOvertakes,
    ];

    /// The failure point that makes the inbox wrong; the others are wrong projections.
    pub(crate) fn failpoint(self) -> Option<&'static str> {
        match self {
            Self::NoFence => Some("inbox.no_fence=return"),
            Self::PositionFirst => Some("inbox.position_first=return"),
            Self::LetterNotAwaited => Some("inbox.letter_not_awaited=return"),
            Self::LettersHandled => Some("inbox.letters_are_handled=return"),
            Self::OffsetOffByOne => Some("inbox.offset_off_by_one=return"),
            Self::NothingWaits => Some("inbox.nothing_waits=return"),
            Self::ReleaseOvertakes => Some("inbox.release_overtakes=return"),
            Self::Right | Self::NoIntent | Self::NoVersionGuard | Self::Unsorted => None,
        }
    }

    /// The violations of which its fault must leave one behind.
    pub(crate) fn signs(self) -> &'static [&'static str] {
        match self {
            Self::Right => &[],
            Self::NoFence | Self::PositionFirst | Self::LettersHandled => &["snapshots whose sums disagree"],
            Self::NoIntent => &["stale in the cache"],
            Self::NoVersionGuard => &["wrong states"],
            Self::LetterNotAwaited => &["letters not on their topic"],
            Self::Unsorted => &["deadlocks"],
            Self::OffsetOffByOne => &["lost"],
            Self::NothingWaits => &["keys out of order"],
            // What was overtaken is out of order when it comes, and waits for nothing as long as it does not.
            Self::ReleaseOvertakes => &["keys out of order", "letters that wait for nothing"],
        }
    }

    /// The traffic that shows what is wrong with it.
    pub(crate) fn mix(self) -> Mix {
        match self {
            Self::NothingWaits | Self::ReleaseOvertakes => Mix::Strict,
            Self::Right
            | Self::NoFence
            | Self::PositionFirst
            | Self::NoIntent
            | Self::NoVersionGuard
            | Self::LetterNotAwaited
            | Self::Unsorted
            | Self::LettersHandled
            | Self::OffsetOffByOne => Mix::Poison,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        formatter.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}
