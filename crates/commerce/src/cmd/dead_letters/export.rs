//! `commerce dead-letters export`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use inbox::dead_letter;
use sqlx::PgConnection;

use super::action::watched;
use super::filter::{FilterArguments, StatusArguments};
use super::output::whole_json;
use super::text::json_text;
use crate::config::Config;

/// Letters of one page; each may have a value of 1 MiB.
const PAGE_LETTERS: u32 = 20;

/// What `commerce dead-letters export` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    status: StatusArguments,
    /// At most so many letters
    #[arg(long)]
    limit: Option<u64>,
    /// Where the lines go; standard output unless given
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(
    config: &Config,
    connection: &mut PgConnection,
    arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let filter = arguments.filter.filter(config, connection, arguments.status.statuses()?).await?;
    let target: Box<dyn Write> = match &arguments.output {
        None => Box::new(std::io::stdout()),
        Some(path) => {
            Box::new(std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?)
        }
    };
    let mut target = BufWriter::new(target);
    let matched = dead_letter::count_letters(connection, &filter).await?;
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let (written, is_stopped) = watched(async |stop, bar| {
        bar.set_length(matched.min(limit));
        let (mut cursor, mut written) = (None, 0_u64);
        while written < limit && !stop.is_cancelled() {
            let letters_max =
                u32::try_from(limit - written).map_or(PAGE_LETTERS, |left| left.min(PAGE_LETTERS));
            let page =
                dead_letter::list_whole_letters(connection, &filter, cursor.as_ref(), letters_max).await?;
            let Some(last) = page.last() else { break };
            cursor = Some(last.letter.place.clone());
            for whole in &page {
                writeln!(target, "{}", json_text(&whole_json(whole).to_string()))
                    .context("writing a letter")?;
                written += 1;
            }
            bar.set_position(written);
        }
        anyhow::Ok((written, stop.is_cancelled()))
    })
    .await?;
    target.flush().context("writing the last letters")?;
    let end = if is_stopped { ", stopped before the end" } else { "" };
    eprintln!("{written} of {matched} letters were written{end}");
    Ok(if is_stopped { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
