//! The outbox under torture: [`run_once`] is one run, [`prove`] runs the right relay and each wrong one.

mod faults;
mod judge;
mod prove;
mod relay_process;
mod relays;
mod report;
mod run;
mod script;
mod stage;
mod store;
mod variant;
mod writers;
mod wrong_relays;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

pub use judge::Verdict;
pub use prove::{Proof, ProofSettings, prove};
pub use relay_process::{RelayArguments, run_relay};
pub use run::{Outcome, RunSettings, run_once};
pub use variant::Variant;

use crate::server::BrokerArguments;

/// `cargo x torture outbox`
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Minutes of traffic and faults
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Repeats the plan of a run; its timing is the machine's
    #[arg(long)]
    seed: Option<u64>,
    /// The relay under torture
    #[arg(long, value_enum, default_value_t = Variant::Right)]
    relay: Variant,
    /// Concurrent writers
    #[arg(long, default_value_t = 24)]
    writers: usize,
    /// Runs the right relay and each wrong one, and fails unless exactly the wrong ones are caught
    #[arg(long)]
    prove: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

/// Runs what was asked for and prints it; an error means that something was violated.
///
/// # Errors
/// A violation, a wrong relay that was not caught, or servers that do not answer.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let program = std::env::current_exe()?;
    let seed = arguments.seed.unwrap_or_else(rand::random);
    if arguments.prove {
        return prove_all(program, seed).await;
    }
    ensure!(arguments.minutes.is_finite() && arguments.minutes > 0.0, "--minutes must be above 0");
    let settings = RunSettings {
        program,
        seed,
        variant: arguments.relay,
        writers: arguments.writers,
        traffic: Duration::from_secs_f64(arguments.minutes * 60.0),
        broker: arguments.broker.server(),
        shows_progress: true,
    };
    let outcome = run_once(&settings).await;
    if let Some(broker) = &settings.broker {
        broker.restore().await?;
    }
    let outcome = outcome?;
    eprintln!("{}", report::table(&settings, &outcome));
    let violations = outcome.violations();
    if violations.is_empty() {
        return Ok(());
    }
    bail!("relay {} under seed {seed}: {}", arguments.relay, report::list(&violations))
}

async fn prove_all(program: PathBuf, seed: u64) -> Result<()> {
    let proofs = prove(&ProofSettings::new(program, seed)).await?;
    eprintln!("{}", report::proof_table(seed, &proofs));
    match proofs.iter().find(|proof| !proof.holds()) {
        None => Ok(()),
        Some(proof) if proof.variant == Variant::Right => bail!("the right relay is accused, seed {seed}"),
        Some(proof) => bail!("relay {} was not caught, seed {seed}", proof.variant),
    }
}
