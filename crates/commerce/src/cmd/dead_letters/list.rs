//! `commerce dead-letters list`.

use std::fmt::Write as _;
use std::process::ExitCode;

use inbox::dead_letter::{self, Letter};
use serde_json::json;
use sqlx::PgConnection;

use super::filter::{FilterArguments, StatusArguments};
use super::output::{JsonArguments, letter_json, time};
use super::text::shorten;
use crate::cmd::terminal::printable;
use crate::config::Config;

/// Characters of an error in a line.
const ERROR_CHARS_MAX: usize = 100;
/// Most letters of a list.
const LIMIT_MAX: u32 = 10_000;

/// What `commerce dead-letters list` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    status: StatusArguments,
    /// At most so many letters, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    limit: u32,
    #[command(flatten)]
    json: JsonArguments,
}

pub(super) async fn run(
    config: &Config,
    connection: &mut PgConnection,
    arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let filter = arguments.filter.filter(config, connection, arguments.status.statuses()?).await?;
    let mut letters = dead_letter::list_letters(connection, &filter, arguments.limit + 1).await?;
    let limit = usize::try_from(arguments.limit)?;
    let is_cut = letters.len() > limit;
    letters.truncate(limit);
    let mut text: String = letters.iter().map(line).collect();
    if letters.is_empty() {
        text.push_str("no such dead letters\n");
    } else if is_cut {
        writeln!(text, "and more: narrow the conditions, or raise --limit (now {limit})")?;
    }
    let value = json!({"letters": letters.iter().map(letter_json).collect::<Vec<_>>(), "more": is_cut});
    arguments.json.publish(&text, &value)?;
    Ok(ExitCode::SUCCESS)
}

/// One letter in one line.
pub(super) fn line(letter: &Letter) -> String {
    let place = &letter.place;
    let event_type = letter.event_type.as_deref().unwrap_or("-");
    format!(
        "{} {} {:<9} {}[{}]@{} {} {} {} redriven {}x: {}\n",
        letter.id,
        time(letter.first_seen),
        letter.status,
        printable(&place.topic),
        place.partition,
        place.offset,
        printable(&place.consumer_group),
        printable(&shorten(event_type, ERROR_CHARS_MAX)),
        printable(&letter.reason),
        letter.redrive_count,
        printable(&shorten(&letter.error, ERROR_CHARS_MAX)),
    )
}
