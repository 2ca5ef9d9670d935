//! The harness proves itself: the right relay passes, and each wrong one is caught.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::run::{RunSettings, run_once};
use super::variant::Variant;

/// How long each relay is tortured.
#[derive(Debug, Clone)]
pub struct ProofSettings {
    /// The program that has the subcommand `relay-process`.
    pub program: PathBuf,
    /// Seed of the first run; each further run has the next.
    pub seed: u64,
    /// Concurrent writers.
    pub writers: usize,
    /// Traffic for the right relay.
    pub right: Duration,
    /// Traffic of each run of a wrong relay.
    pub wrong: Duration,
    /// Runs within which a wrong relay must be caught.
    pub runs_max: u64,
    /// Whether progress goes to standard error.
    pub shows_progress: bool,
}

/// What became of one relay.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The relay.
    pub variant: Variant,
    /// What it violated.
    pub violations: Vec<(&'static str, u64)>,
    /// Runs that this took.
    pub runs: u64,
    /// Events committed in all of them.
    pub events: u64,
    /// Time that this took.
    pub took: Duration,
}

impl Proof {
    /// Whether the right relay passed, or a wrong one was caught.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty() == (self.variant == Variant::Right)
    }
}

impl ProofSettings {
    /// A minute for the right relay, up to twelve runs of ten seconds for each wrong one.
    #[must_use]
    pub fn new(program: PathBuf, seed: u64) -> Self {
        Self {
            program,
            seed,
            writers: 24,
            right: Duration::from_secs(60),
            wrong: Duration::from_secs(10),
            runs_max: 12,
            shows_progress: true,
        }
    }
}

/// Runs the right relay once, and each wrong one until it is caught.
///
/// # Errors
/// As [`run_once`].
pub async fn prove(settings: &ProofSettings) -> Result<Vec<Proof>> {
    let mut proofs = Vec::new();
    for variant in std::iter::once(Variant::Right).chain(Variant::WRONG) {
        let proof = prove_one(settings, variant).await?;
        if settings.shows_progress {
            eprintln!("{variant}: {:?} after {} s", proof.violations, proof.took.as_secs());
        }
        proofs.push(proof);
    }
    Ok(proofs)
}

async fn prove_one(settings: &ProofSettings, variant: Variant) -> Result<Proof> {
    let begun = Instant::now();
    let (traffic, runs_max) =
        if variant == Variant::Right { (settings.right, 1) } else { (settings.wrong, settings.runs_max) };
    let mut proof = Proof { variant, violations: Vec::new(), runs: 0, events: 0, took: Duration::ZERO };
    while proof.runs < runs_max && proof.violations.is_empty() {
        let run = RunSettings {
            program: settings.program.clone(),
            seed: settings.seed.wrapping_add(proof.runs),
            variant,
            writers: settings.writers,
            traffic,
            broker: None,
            shows_progress: false,
        };
        let outcome = run_once(&run).await?;
        proof.runs += 1;
        proof.events += outcome.verdict.committed;
        proof.violations = outcome.violations();
    }
    proof.took = begun.elapsed();
    Ok(proof)
}
