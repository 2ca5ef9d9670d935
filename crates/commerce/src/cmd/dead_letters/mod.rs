//! `commerce dead-letters`: look at what was set aside, bring it back, or give it up.
//!
//! Reads say what the database knows at that moment. `redrive` and `discard` need a name and a reason, say what they
//! changed, and can be repeated: what is done is not done twice.

mod action;
mod discard;
mod export;
mod filter;
mod group;
mod list;
mod named;
mod output;
mod redrive;
mod show;
mod text;

use std::process::ExitCode;

use anyhow::Context;
use sqlx::PgConnection;

use crate::config::{Config, mask_url};

/// What `commerce dead-letters` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The newest letters
    List(list::Arguments),
    /// One letter: its record, whether its event was handled since, its other lives, what was done to it
    Show(show::Arguments),
    /// Letters by cause, the most frequent first
    Group(group::Arguments),
    /// Send letters to their original topics again; each counts once
    Redrive(redrive::Arguments),
    /// Give letters up; they stay, and are not redriven any more
    Discard(discard::Arguments),
    /// Write whole letters as JSON lines, by place
    Export(export::Arguments),
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut connection = connect(config).await?;
    let connection = &mut connection;
    match arguments.command {
        Command::List(arguments) => list::run(config, connection, arguments).await,
        Command::Show(arguments) => show::run(connection, arguments).await,
        Command::Group(arguments) => group::run(config, connection, arguments).await,
        Command::Redrive(arguments) => redrive::run(config, connection, arguments).await,
        Command::Discard(arguments) => discard::run(config, connection, arguments).await,
        Command::Export(arguments) => export::run(config, connection, arguments).await,
    }
}

/// To the database that holds the inbox.
async fn connect(config: &Config) -> anyhow::Result<PgConnection> {
    let url = config.metrics_url();
    let options = runtime::database::connect_options(url, "commerce-dead-letters")?;
    inbox::dead_letter::connect(&options).await.with_context(|| format!("{} does not answer", mask_url(url)))
}
