//! `commerce dead-letters group`.

use std::process::ExitCode;

use inbox::dead_letter::{self, LetterGroup};
use serde_json::json;
use sqlx::PgConnection;

use super::filter::{FilterArguments, StatusArguments};
use super::output::{JsonArguments, group_json, time};
use super::text::shorten;
use crate::cmd::terminal::printable;
use crate::config::Config;

/// Characters of an error.
const ERROR_CHARS_MAX: usize = 200;

/// What `commerce dead-letters group` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    status: StatusArguments,
    /// At most so many causes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
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
    let groups = dead_letter::group_letters(connection, &filter, arguments.limit).await?;
    let mut text: String = groups.iter().map(describe).collect();
    if groups.is_empty() {
        text.push_str("no such dead letters\n");
    }
    let value = json!({"causes": groups.iter().map(group_json).collect::<Vec<_>>()});
    arguments.json.publish(&text, &value)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(group: &LetterGroup) -> String {
    let list = |names: &[String]| printable(&names.join(", "));
    format!(
        "{:>8} letters, {} open  {} {}\n         fingerprint {}, {} to {}\n         topics {}, groups {}\n         \
         newest {}: {}\n",
        group.letters,
        group.open,
        printable(&shorten(group.event_type.as_deref().unwrap_or("-"), ERROR_CHARS_MAX)),
        printable(&group.reason),
        printable(&group.fingerprint),
        time(group.first_seen),
        time(group.last_seen),
        list(&group.topics),
        list(&group.consumer_groups),
        group.sample_id,
        printable(&shorten(&group.sample_error, ERROR_CHARS_MAX)),
    )
}
