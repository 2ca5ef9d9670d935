//! `commerce demo`: traffic and faults, then the proof.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use commerce_workload::demo::{self, DemoSettings};

use crate::config::Config;

/// What `commerce demo` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Decides all traffic: the same seed, the same commands
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Commands of all buyers together
    #[arg(long, default_value_t = 100_000)]
    commands: u64,
    /// Buyers
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    buyers: u64,
    /// Products
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    products: u32,
    /// Records of the topics that are sent a second time
    #[arg(long, default_value_t = 1_000)]
    duplicates: usize,
    /// Poison records that are sent
    #[arg(long, default_value_t = 25)]
    poison: usize,
    /// Times that the relay is killed
    #[arg(long, default_value_t = 2)]
    relay_kills: usize,
    /// Times that the streamer is killed
    #[arg(long, default_value_t = 2)]
    streamer_kills: usize,
    /// Leave everything running after the proof, print the URLs, end with Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Write the figures as JSON; `-` for standard output
    #[arg(long)]
    json: Option<PathBuf>,
    /// Shell command that stops Kafka; without it there is no outage of the broker
    #[arg(long, requires = "broker_start")]
    broker_stop: Option<String>,
    /// Shell command that starts Kafka again
    #[arg(long, requires = "broker_stop")]
    broker_start: Option<String>,
    /// Where the logs of the roles go
    #[arg(long, default_value = ".run/demo")]
    run_dir: PathBuf,
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let shell = |command: String| vec!["sh".to_owned(), "-c".to_owned(), command];
    let outcome = demo::run(DemoSettings {
        seed: arguments.seed,
        commands: arguments.commands,
        buyers: arguments.buyers,
        products: usize::try_from(arguments.products).context("--products")?,
        keep: arguments.keep,
        json: arguments.json,
        binary: std::env::current_exe().context("the path of this program")?,
        database_url: config.database.url.clone(),
        kafka_brokers: config.kafka.brokers.clone(),
        redis_url: config.redis.url.clone(),
        broker_stop: arguments.broker_stop.map(shell),
        broker_start: arguments.broker_start.map(shell),
        run_dir: arguments.run_dir,
        duplicates: arguments.duplicates,
        poison: arguments.poison,
        relay_kills: arguments.relay_kills,
        streamer_kills: arguments.streamer_kills,
    })
    .await?;
    Ok(if outcome.exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
