//! The inbox under torture: [`run_once`] is one run, [`prove_one`] runs a consumer that is wrong on purpose.
//!
//! Members are processes that kill themselves at named points while a producer writes events, some of them twice, some of
//! them poison; where the projection is strict, operators deal with what waits. A checker compares the sums several times a
//! second; at the end a ledger says what must have come of it.

mod checker;
mod event;
mod judge;
mod member_process;
mod members;
mod mix;
mod operator;
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

use anyhow::{Result, anyhow, bail, ensure};
use futures_util::future::try_join_all;

pub use member_process::{MemberArguments, run_member};
pub use mix::Mix;
pub use operator::{Act, OperatorArguments, run_operator};
pub use point::{POINTS, Point, Trouble};
pub use prove::{CELLS, DRAIN_MAX, Proof, cell, prove_one};
pub use run::{Outcome, RunSettings, Servers, run_once};
pub use variant::Variant;

use crate::Server;
use crate::server::BrokerArguments;

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
    /// Stops and starts Kafka and PostgreSQL instead, under three members with poison
    #[arg(long, conflicts_with = "faults")]
    restarts: bool,
    /// Runs each wrong consumer, and fails unless every one is caught
    #[arg(long)]
    prove: bool,
    #[command(flatten)]
    broker: BrokerArguments,
    /// Shell command that stops PostgreSQL, the harder the better; without it PostgreSQL is never stopped
    #[arg(long, requires = "postgres_start")]
    postgres_stop: Option<String>,
    /// Shell command that starts PostgreSQL and waits until it answers
    #[arg(long, requires = "postgres_stop")]
    postgres_start: Option<String>,
}

impl Arguments {
    fn servers(&self) -> Servers {
        Servers {
            broker: self.broker.server(),
            postgres: Server::new(self.postgres_stop.clone(), self.postgres_start.clone()),
        }
    }

    /// The right consumer's run in one cell, or that of the consumer that was asked for.
    fn run_in(&self, program: PathBuf, seed: u64, cell_of: (usize, Mix)) -> RunSettings {
        let mut settings = cell(program, seed, cell_of);
        settings.variant = self.consumer;
        settings.traffic = Duration::from_secs_f64(self.minutes * 60.0);
        settings.shows_progress = true;
        if self.faults {
            settings.troubles = Trouble::FAULTS.to_vec();
        }
        settings
    }
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
    if arguments.restarts {
        return restart_servers(arguments, program, seed).await;
    }
    // Members wait for the group most of the time, so the cells run beside each other.
    let runs = CELLS.map(|cell_of| arguments.run_in(program.clone(), seed, cell_of));
    let outcomes = try_join_all(runs.iter().map(run_once)).await?;
    accept(arguments.consumer, seed, &runs.into_iter().zip(outcomes).collect::<Vec<_>>())
}

/// Alone, because a server is away for every run that uses it.
async fn restart_servers(arguments: &Arguments, program: PathBuf, seed: u64) -> Result<()> {
    let servers = arguments.servers();
    let mut settings = arguments.run_in(program, seed, (3, Mix::Poison));
    settings.troubles = servers.restarts();
    settings.servers = servers.clone();
    ensure!(
        !settings.troubles.is_empty(),
        "--restarts needs --broker-stop and --broker-start, or the same of postgres"
    );
    let outcome = tokio::select! {
        outcome = run_once(&settings) => outcome,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(anyhow!("interrupted")),
            Err(error) => Err(error.into()),
        },
    };
    // Whatever ended the run, the servers are others' as well.
    servers.restore().await?;
    accept(arguments.consumer, seed, &[(settings, outcome?)])
}

/// Prints what runs came to; an error if anything is wrong with one.
fn accept(variant: Variant, seed: u64, runs: &[(RunSettings, Outcome)]) -> Result<()> {
    eprintln!("{}", report::table(variant, seed, runs));
    for (_, outcome) in runs {
        ensure!(
            outcome.unreached.is_empty(),
            "not reached under seed {seed}: {}",
            outcome.unreached.join(", ")
        );
        let violations = report::list(&outcome.violations);
        ensure!(violations.is_empty(), "consumer {variant} under seed {seed}: {violations}");
    }
    Ok(())
}

async fn prove_all(program: PathBuf, seed: u64) -> Result<()> {
    eprintln!("seed {seed}");
    for variant in Variant::WRONG {
        let proof = prove_one(program.clone(), seed, variant).await?;
        eprintln!("{}", report::proof_line(&proof));
        if !proof.holds() {
            bail!("consumer {variant} was not caught, seed {seed}");
        }
    }
    Ok(())
}
