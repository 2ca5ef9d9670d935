//! What a run's traffic is like.

use std::fmt;

use clap::ValueEnum;

/// What is among the events, and what the projection asks of their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// Good events only.
    Clean,
    /// Some events are poison, and others of their keys overtake them.
    Poison,
    /// As `Poison`, but the projection is strict: events behind poison wait until operators, who are at it all the time,
    /// have dealt with it.
    Strict,
}

impl Mix {
    /// Whether some events are poison.
    #[must_use]
    pub fn has_poison(self) -> bool {
        self != Self::Clean
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Clean => "clean",
            Self::Poison => "poison",
            Self::Strict => "strict",
        })
    }
}
