//! `commerce config`: the settings in use, as TOML, without secrets.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, DEFAULTS};

/// What `commerce config` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the manual instead: every setting with its default and what it does
    #[arg(long)]
    default: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    if arguments.default {
        print!("{DEFAULTS}");
    } else {
        // Read as the roles read it, so that what is printed is also known to be valid.
        config::load(file)?;
        print!("{}", config::effective(file)?);
    }
    Ok(ExitCode::SUCCESS)
}
