//! `commerce outbox`: the outbox for operators.

mod parked;
mod status;
mod text;

use std::process::ExitCode;

use crate::config::Config;

/// What `commerce outbox` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Who owns which shard, what waits in it, and what the segments hold
    Status(status::Arguments),
    /// Records that the broker refuses for good, and the records of their keys behind them
    Parked(parked::Arguments),
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Status(arguments) => status::run(config, arguments).await,
        Command::Parked(arguments) => parked::run(config, arguments).await,
    }
}
