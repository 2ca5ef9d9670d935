//! `commerce dead-letters discard`.

use std::process::ExitCode;

use anyhow::Context;
use inbox::dead_letter::{self, LetterStatus};
use sqlx::PgConnection;

use super::action::{ActionArguments, show_progress, watched};
use crate::config::Config;

/// What `commerce dead-letters discard` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    action: ActionArguments,
}

pub(super) async fn run(
    config: &Config,
    connection: &mut PgConnection,
    arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let action = &arguments.action;
    let (selection, unmatched) = action.select(config, connection, &[LetterStatus::Discarded]).await?;
    if action.is_dry_run() {
        let report = dead_letter::preview_discard(connection, &selection).await?;
        return action.report("discarded", &report, &unmatched);
    }
    let mandate = action.mandate()?;
    let mut done = 0;
    let outcome = watched(async |stop, bar| {
        dead_letter::discard(connection, &selection, &mandate, stop, |report| {
            done = report.done;
            show_progress(bar, report);
        })
        .await
    })
    .await;
    let report = outcome
        .with_context(|| format!("{done} letters were discarded; the same command goes on with the rest"))?;
    action.report("discarded", &report, &unmatched)
}
