//! The inbox under torture: [`run_once`] is one run, [`prove_one`] runs a consumer that is wrong on purpose.
//!
//! Members are processes that kill themselves at named points while a producer writes events, some of them twice, some of
//! them poison. A checker compares the sums several times a second; at the end a ledger says what must have come of it.

mod checker;
mod event;
mod judge;
mod member_process;
mod members;
mod point;
mod projection;
mod prove;
mod report;
mod run;
mod stage;
mod store;
mod traffic;
mod trouble;
mod variant;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

pub use member_process::{MemberArguments, run_member};
pub use point::{POINTS, Point, Trouble};
pub use prove::{CELLS, DRAIN_MAX, Proof, cell, prove_one};
pub use run::{Outcome, RunSettings, run_once};
pub use variant::Variant;

/// `cargo x torture inbox`
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The troubles begin anew until so many minutes are over; without it each is made once
    #[arg(long, default_value_t = 0.0)]
    minutes: f64,
    /// Repeats the traffic of a run; its timing is the machine's
    #[arg(long)]
    seed: Option<u64>,
    /// The consumer under torture
    #[arg(long, value_enum, default_value_t = Variant::Right)]
    consumer: Variant,
    /// Other troubles than kills: members frozen, members that come and go, a database that refuses
    #[arg(long)]
    faults: bool,
    /// Runs each wrong consumer, and fails unless every one is caught
    #[arg(long)]
    prove: bool,
}

/// Runs what was asked for and prints it; an error means that something was violated.
///
/// # Errors
/// A violation, a point that was not reached, a wrong consumer that was not caught, or servers that do not answer.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let program = std::env::current_exe()?;
    let seed = arguments.seed.unwrap_or_else(rand::random);
    ensure!(arguments.minutes.is_finite() && arguments.minutes >= 0.0, "--minutes must not be below 0");
    if arguments.prove {
        return prove_all(program, seed).await;
    }
    let runs = CELLS.map(|cell_of| {
        let mut settings = cell(program.clone(), seed, cell_of);
        settings.variant = arguments.consumer;
        settings.traffic = Duration::from_secs_f64(arguments.minutes * 60.0);
        settings.shows_progress = true;
        if arguments.faults {
            settings.troubles = Trouble::FAULTS.to_vec();
        }
        settings
    });
    let [first, second, third, fourth] = &runs;
    // Members wait for the group most of the time, so the cells run beside each other.
    let outcomes = tokio::try_join!(run_once(first), run_once(second), run_once(third), run_once(fourth))?;
    let outcomes: [Outcome; 4] = outcomes.into();
    let runs: Vec<(RunSettings, Outcome)> = runs.into_iter().zip(outcomes).collect();
    eprintln!("{}", report::table(&runs));
    for (settings, outcome) in &runs {
        ensure!(
            outcome.unreached.is_empty(),
            "not reached under seed {seed}: {}",
            outcome.unreached.join(", ")
        );
        let violations = report::list(&outcome.violations);
        ensure!(violations.is_empty(), "consumer {} under seed {seed}: {violations}", settings.variant);
    }
    Ok(())
}

async fn prove_all(program: PathBuf, seed: u64) -> Result<()> {
    for variant in Variant::WRONG {
        let proof = prove_one(program.clone(), seed, variant).await?;
        eprintln!("{}", report::proof_line(&proof));
        if !proof.holds() {
            bail!("consumer {variant} was not caught, seed {seed}");
        }
    }
    Ok(())
}
