//! `commerce dead-letters redrive`.

use std::num::NonZeroU32;
use std::process::ExitCode;

use anyhow::Context;
use inbox::dead_letter::{self, LetterStatus};
use sqlx::PgConnection;

use super::action::{ActionArguments, show_progress, watched};
use crate::config::Config;

/// What `commerce dead-letters redrive` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    action: ActionArguments,
    /// At most so many letters a second, for example 100/s
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<NonZeroU32>,
}

fn parse_rate(text: &str) -> Result<NonZeroU32, String> {
    text.strip_suffix("/s").unwrap_or(text).parse().map_err(|_| "not a rate as 100/s".to_owned())
}

pub(super) async fn run(
    config: &Config,
    connection: &mut PgConnection,
    arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let action = &arguments.action;
    let (selection, unmatched) =
        action.select(config, connection, &[LetterStatus::Redriven, LetterStatus::Released]).await?;
    let mut settings = config.redrive();
    settings.letters_per_second = arguments.rate;
    if action.is_dry_run() {
        let report = dead_letter::preview_redrive(connection, &settings, &selection).await?;
        return action.report("redriven", &report, &unmatched);
    }
    let mandate = action.mandate()?;
    let mut done = 0;
    let outcome = watched(async |stop, bar| {
        dead_letter::redrive(connection, &settings, &selection, &mandate, stop, |report| {
            done = report.done;
            show_progress(bar, report);
        })
        .await
    })
    .await;
    let report = outcome
        .with_context(|| format!("{done} letters were redriven; the same command goes on with the rest"))?;
    action.report("redriven", &report, &unmatched)
}

#[cfg(test)]
mod tests {
    use super::parse_rate;

    #[test]
    fn a_rate_is_a_number_a_second() {
        assert_eq!(parse_rate("100/s").map(u32::from), Ok(100));
        assert_eq!(parse_rate("7").map(u32::from), Ok(7));
        assert!(["0/s", "-1/s", "1/m", "", "/s"].iter().all(|text| parse_rate(text).is_err()));
    }
}
