//! The binary: one process for each role, and the tools around them. It wires and decides nothing.

mod cmd;
mod config;
mod roles;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// librdkafka allocates for every record; with `override` its allocations are served by it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "commerce", version, about = "An exact event pipeline for commerce")]
struct Cli {
    /// Settings that differ from the defaults (see `commerce config --default`)
    #[arg(long, global = true, env = "COMMERCE_CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create or update tables and topics
    Migrate,
    /// Serve buyers over HTTP
    Api,
    /// Publish the outbox to Kafka
    Relay,
    /// Fold events into counts and states; `offsets` shows and moves where they go on
    Streamer {
        #[command(subcommand)]
        task: Option<cmd::offsets::StreamerTask>,
    },
    /// Run every role in this process
    All,
    /// Drive seeded traffic and faults through the roles, and prove the counts
    Demo(cmd::demo::Arguments),
    /// Push a recorded file through the pipeline
    Replay(cmd::replay::Arguments),
    /// Recount everything from its sources and compare with what buyers see
    Verify(cmd::verify::Arguments),
    /// Look at dead letters, bring them back, or give them up
    DeadLetters(Box<cmd::dead_letters::Arguments>),
    /// Look at the outbox, and act on what is parked
    Outbox(cmd::outbox::Arguments),
    /// Issue tokens for callers, look at them, or revoke them
    Token(cmd::token::Arguments),
    /// Check what the roles need, and say what is wrong
    Doctor(cmd::doctor::Arguments),
    /// Print the settings in use, secrets masked
    Config(cmd::config::Arguments),
}

/// How long calls into client libraries that nobody waits for any more may hold up the end of the process.
const LEFT_BEHIND_MAX: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let cli = Cli::parse();
    let outcome = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(run(cli));
        runtime.shutdown_timeout(LEFT_BEHIND_MAX);
        outcome
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let file = cli.config.as_deref();
    if let Command::Config(arguments) = cli.command {
        return cmd::config::run(&arguments, file);
    }
    let config = config::load(file)?;
    match cli.command {
        Command::Migrate => cmd::migrate::run(&config).await,
        Command::Api => roles::run(&config, &[roles::Role::Api]).await,
        Command::Relay => roles::run(&config, &[roles::Role::Relay]).await,
        Command::Streamer { task: None } => roles::run(&config, &[roles::Role::Streamer]).await,
        Command::Streamer { task: Some(task) } => cmd::offsets::run(&config, task).await,
        Command::All => roles::run(&config, &roles::Role::ALL).await,
        Command::Demo(arguments) => cmd::demo::run(&config, arguments).await,
        Command::Replay(arguments) => cmd::replay::run(&config, arguments).await,
        Command::Verify(arguments) => cmd::verify::run(&config, arguments).await,
        Command::DeadLetters(arguments) => cmd::dead_letters::run(&config, *arguments).await,
        Command::Outbox(arguments) => cmd::outbox::run(&config, arguments).await,
        Command::Token(arguments) => cmd::token::run(&config, arguments).await,
        Command::Doctor(arguments) => cmd::doctor::run(&config, &arguments).await,
        Command::Config(_) => Ok(ExitCode::SUCCESS),
    }
}
