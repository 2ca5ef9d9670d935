//! Operators who deal with what a strict projection has set aside, while everything happens.

use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use inbox::dead_letter::{self, LetterFilter, Mandate, RedriveSettings, Selection};
use kafka_client::{ClientSettings, ProducerSettings};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::stage::Stage;

/// Pause between two acts.
const PAUSE: Duration = Duration::from_millis(300);

/// What an operator does with every letter that waits for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// Brings it back, mended or not.
    Redrive,
    /// Gives it up if the database refused it: the poison that cannot be decoded waits for its release.
    DiscardRefused,
    /// Gives it up.
    Discard,
}

/// `torture inbox-operator`
#[derive(Debug, clap::Args)]
pub struct OperatorArguments {
    /// What it does before it ends
    #[arg(long, value_enum)]
    act: Act,
    /// `host:port` list
    #[arg(long)]
    brokers: String,
    /// Where the inbox is
    #[arg(long, env = "COMMERCE_DATABASE_URL")]
    database_url: String,
}

/// Acts once.
///
/// # Errors
/// Whatever the act fails with.
pub async fn run_operator(arguments: OperatorArguments) -> Result<()> {
    let _scenario = fail::FailScenario::setup();
    let options = PgConnectOptions::from_str(&arguments.database_url)?.disable_statement_logging();
    let client = ClientSettings::new(&arguments.brokers, "operator");
    act(&mut options.connect().await?, client, arguments.act).await?;
    Ok(())
}

/// Does it to every open letter; answers how many were changed.
pub(super) async fn act(connection: &mut PgConnection, client: ClientSettings, act: Act) -> Result<u64> {
    let mandate = Mandate::new(Uuid::now_v7(), "torture", "as the dice fell")?;
    let (mut selection, stop) = (Selection::default(), CancellationToken::new());
    if act == Act::DiscardRefused {
        selection.filter = LetterFilter { reason: Some("constraint".to_owned()), ..LetterFilter::default() };
    }
    let report = match act {
        Act::Redrive => {
            let mut settings = RedriveSettings::new(ProducerSettings::new(client));
            settings.redrives_max = u32::MAX;
            dead_letter::redrive(connection, &settings, &selection, &mandate, &stop, |_| ()).await?
        }
        Act::DiscardRefused | Act::Discard => {
            dead_letter::discard(connection, &selection, &mandate, &stop, |_| ()).await?
        }
    };
    Ok(report.done)
}

/// Acts again and again until it is stopped; answers how many letters it has redriven.
pub(super) async fn operate(stage: &Stage, seed: u64, stop: &CancellationToken) -> Result<u64> {
    let (mut connection, mut random) = (stage.connect().await?, StdRng::seed_from_u64(seed));
    let mut redriven = 0;
    while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        let next = match random.random_range(0..10) {
            0 => Act::Discard,
            1..4 => Act::DiscardRefused,
            _ => Act::Redrive,
        };
        let done = act(&mut connection, stage.client(), next).await?;
        redriven += if next == Act::Redrive { done } else { 0 };
    }
    Ok(redriven)
}

/// An operator as a process of its own, which is to die at a failure point; answers how it ended.
pub(super) async fn run_process(
    program: &std::path::Path,
    stage: &Stage,
    next: Act,
    failpoint: &str,
) -> Result<ExitStatus> {
    let name = next.to_possible_value().context("an act has a name")?;
    let status = Command::new(program)
        .args(["inbox-operator", "--act", name.get_name(), "--brokers", stage.topics.brokers()])
        .env("COMMERCE_DATABASE_URL", stage.database.url())
        .env("FAILPOINTS", failpoint)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status();
    status.await.with_context(|| program.display().to_string())
}
