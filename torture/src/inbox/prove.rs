//! The harness proves itself: the right consumer passes in every cell, and each wrong one is caught.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::mix::Mix;
use super::point::Trouble;
use super::run::{Outcome, RunSettings, Servers, run_once};
use super::variant::Variant;

/// Members and what their traffic is like.
pub const CELLS: [(usize, Mix); 5] =
    [(1, Mix::Clean), (1, Mix::Poison), (3, Mix::Clean), (3, Mix::Poison), (3, Mix::Strict)];
/// Longest wait for a right consumer to come to the end.
pub const DRAIN_MAX: Duration = Duration::from_secs(120);
/// For a wrong one, which may never come there.
const WRONG_DRAIN_MAX: Duration = Duration::from_secs(15);
/// Traffic of a wrong consumer beside its troubles.
const WRONG_TRAFFIC: Duration = Duration::from_secs(5);
/// Runs within which a wrong consumer must be caught.
const RUNS_MAX: u64 = 8;

/// What became of one wrong consumer.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The consumer.
    pub variant: Variant,
    /// Its last run.
    pub outcome: Outcome,
    /// Runs that this took.
    pub runs: u64,
}

impl Proof {
    /// Whether it was caught at what is wrong with it.
    #[must_use]
    pub fn holds(&self) -> bool {
        let Outcome { violations, events, .. } = &self.outcome;
        // Who does nothing at all loses everything, and leaves every state as it was.
        let stands_still = violations.get("lost").is_some_and(|lost| lost * 2 > *events);
        let is_shown = |sign: &&str| {
            violations.contains_key(sign) && !(stands_still && matches!(*sign, "lost" | "wrong states"))
        };
        self.variant.signs().iter().any(is_shown)
    }
}

/// The right consumer in one cell, killed at every point that can be reached in it.
#[must_use]
pub fn cell(program: PathBuf, seed: u64, (members, mix): (usize, Mix)) -> RunSettings {
    RunSettings {
        program,
        seed,
        variant: Variant::Right,
        members,
        mix,
        troubles: Trouble::kills(mix),
        traffic: Duration::ZERO,
        drain_max: DRAIN_MAX,
        servers: Servers::default(),
        shows_progress: false,
    }
}

/// Runs one wrong consumer until it is caught.
///
/// # Errors
/// As [`run_once`].
pub async fn prove_one(program: PathBuf, seed: u64, variant: Variant) -> Result<Proof> {
    let mut run = RunSettings {
        variant,
        troubles: Trouble::for_variant(variant),
        traffic: WRONG_TRAFFIC,
        drain_max: WRONG_DRAIN_MAX,
        ..cell(program, seed, (3, variant.mix()))
    };
    let mut proof = Proof { variant, outcome: Outcome::default(), runs: 0 };
    while proof.runs < RUNS_MAX && !proof.holds() {
        run.seed = seed.wrapping_add(proof.runs);
        proof.outcome = run_once(&run).await?;
        proof.runs += 1;
    }
    Ok(proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is caught by what was found in a run of 100 events.
    fn is_caught<const N: usize>(variant: Variant, violations: [(&'static str, u64); N]) -> bool {
        let outcome = Outcome { violations: violations.into(), events: 100, ..Outcome::default() };
        Proof { variant, outcome, runs: 1 }.holds()
    }

    #[test]
    fn a_consumer_that_only_stands_still_is_not_caught() {
        let nothing_done = [("lost", 95), ("not consumed to the end", 1), ("wrong states", 40)];
        assert!(Variant::WRONG.iter().all(|variant| !is_caught(*variant, nothing_done)));
        assert!(is_caught(Variant::OffsetOffByOne, [("lost", 3), ("not consumed to the end", 1)]));
        assert!(is_caught(Variant::NoVersionGuard, [("wrong states", 3)]));
        assert!(is_caught(Variant::Unsorted, [("lost", 95), ("deadlocks", 1)]));
        assert!(!is_caught(Variant::NoFence, [("stale in the cache", 1)]), "a fault of another kind");
    }
}
