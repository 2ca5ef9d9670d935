//! The relay as it is, and five that are wrong.

use std::fmt;

use clap::ValueEnum;

/// Which relay is tortured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// The relay of the outbox.
    Right,
    /// Reads rows whose id is above the last one read.
    IdAboveLast,
    /// Reads rows below the oldest running transaction, by transaction and id.
    BelowXmin,
    /// The outbox's relay without its fence: a position is moved whoever owns the shard.
    NoEpochCheck,
    /// The outbox's relay, but one acknowledgement counts for everything that was sent before it.
    PastGap,
    /// The outbox's relay beside a retention that deletes by age, wherever the positions are.
    TruncatesEarly,
}

impl Variant {
    /// Every wrong relay.
    pub const WRONG: [Self; 5] =
        [Self::IdAboveLast, Self::BelowXmin, Self::NoEpochCheck, Self::PastGap, Self::TruncatesEarly];

    /// The failure points that make the outbox's relay wrong; the process must be built with them.
    pub(crate) fn failpoints(self) -> Option<&'static str> {
        match self {
            Self::NoEpochCheck => Some("relay.no_epoch_check=return"),
            Self::PastGap => Some("relay.past_gap=return"),
            Self::Right | Self::IdAboveLast | Self::BelowXmin | Self::TruncatesEarly => None,
        }
    }

    /// Whether it keeps the outbox's own positions, so that its backlog tells when it is done.
    pub(crate) fn keeps_positions(self) -> bool {
        match self {
            Self::Right | Self::NoEpochCheck | Self::PastGap | Self::TruncatesEarly => true,
            Self::IdAboveLast | Self::BelowXmin => false,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        formatter.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}
