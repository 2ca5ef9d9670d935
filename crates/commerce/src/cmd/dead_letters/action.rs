//! What `redrive` and `discard` have in common: who and why, progress, a tidy end on Ctrl-C, the report.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use inbox::dead_letter::{ActionReport, LetterStatus, Mandate, Selection};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::filter::{FilterArguments, StatusArguments, check_scope};
use super::named::Unmatched;
use super::output::JsonArguments;
use crate::cmd::operator::OperatorArguments;
use crate::cmd::terminal::printable;
use crate::config::Config;

/// Exit code of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// What every action takes.
#[derive(Debug, clap::Args)]
pub(super) struct ActionArguments {
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    status: StatusArguments,
    #[command(flatten)]
    operator: OperatorArguments,
    /// At most so many letters
    #[arg(long)]
    limit: Option<u64>,
    /// Every letter, when no other condition is given
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    json: JsonArguments,
}

impl ActionArguments {
    pub(super) fn is_dry_run(&self) -> bool {
        self.operator.dry_run
    }

    /// Which letters are meant, and which of those that were named are neither among them nor `done` already.
    ///
    /// # Errors
    /// Conditions that make no sense, or none where everything was not asked for.
    pub(super) async fn select(
        &self,
        config: &Config,
        connection: &mut PgConnection,
        done: &[LetterStatus],
    ) -> anyhow::Result<(Selection, Unmatched)> {
        let filter = self.filter.filter(config, connection, self.status.statuses()?).await?;
        check_scope(&filter, self.all)?;
        let unmatched = Unmatched::find(connection, &filter, done).await?;
        Ok((Selection { filter, limit: self.limit }, unmatched))
    }

    pub(super) fn mandate(&self) -> anyhow::Result<Mandate> {
        let (by, why) = self.operator.who_and_why()?;
        Mandate::new(Uuid::now_v7(), by, why).context("--by and --reason")
    }

    /// Prints what came of it. Success if every letter that matched was dealt with, up to the limit.
    ///
    /// # Errors
    /// A letter that was named did not match.
    pub(super) fn report(
        &self,
        verb: &str,
        report: &ActionReport,
        unmatched: &Unmatched,
    ) -> anyhow::Result<ExitCode> {
        let is_dry_run = self.is_dry_run();
        let mut value = report_json(is_dry_run, report);
        value["unmatched"] = unmatched.to_json();
        self.json.publish(&describe(verb, is_dry_run, report)?, &value)?;
        unmatched.check()?;
        let is_done = is_dry_run || (report.left.is_empty() && !report.is_stopped);
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Runs an action with progress on a terminal. The first Ctrl-C lets the running chunk end, the second ends the process.
pub(super) async fn watched<T>(action: impl AsyncFnOnce(&CancellationToken, &ProgressBar) -> T) -> T {
    let stop = CancellationToken::new();
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec}") {
        bar.set_style(style);
    }
    let watching = tokio::spawn({
        let stop = stop.clone();
        async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.is_cancelled() {
                    std::process::exit(INTERRUPTED);
                }
                eprintln!("ends after what is under way; Ctrl-C again to end at once, which is safe too");
                stop.cancel();
            }
        }
    });
    let outcome = action(&stop, &bar).await;
    watching.abort();
    bar.finish_and_clear();
    outcome
}

/// Moves the bar to where the report is.
pub(super) fn show_progress(bar: &ProgressBar, report: &ActionReport) {
    bar.set_length(report.matched);
    bar.set_position(report.seen());
}

fn describe(verb: &str, is_dry_run: bool, report: &ActionReport) -> anyhow::Result<String> {
    let mut text = String::new();
    let would = if is_dry_run { "would be " } else { "" };
    writeln!(text, "{} letters match, {} {would}{verb}", report.matched, report.done)?;
    for (slug, letters) in &report.left {
        writeln!(text, "{letters} stay as they are: {slug}")?;
    }
    for (id, obstacle) in &report.left_letters {
        writeln!(text, "  {id}: {}", printable(&obstacle.to_string()))?;
    }
    if report.is_stopped {
        writeln!(text, "stopped before the end; the same command goes on with the rest")?;
    }
    Ok(text)
}

fn report_json(is_dry_run: bool, report: &ActionReport) -> Value {
    let letters: Vec<Value> = report
        .left_letters
        .iter()
        .map(|(id, obstacle)| json!({"id": id.to_string(), "obstacle": obstacle.slug(), "error": obstacle.to_string()}))
        .collect();
    json!({
        "dryRun": is_dry_run,
        "matched": report.matched,
        "done": report.done,
        "left": report.left,
        "leftLetters": letters,
        "stopped": report.is_stopped,
    })
}
