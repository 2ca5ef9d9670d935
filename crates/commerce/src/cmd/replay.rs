//! `commerce replay`: a recorded file through the append path.

use std::path::PathBuf;
use std::process::ExitCode;

use commerce_api::EventLog;
use commerce_workload::replay::{self, Format, ReplaySettings};

use crate::config::Config;

/// What `commerce replay` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the lines look like: online-retail or taobao
    #[arg(long)]
    format: Format,
    /// The file, plain or zstd; `-` for standard input
    file: PathBuf,
    /// Write the lines that do not count here: line number, reason, raw line
    #[arg(long)]
    rejects: Option<PathBuf>,
    /// Units in stock of a product that the file makes known
    #[arg(long, default_value_t = ReplaySettings::INITIAL_STOCK)]
    initial_stock: i64,
    /// Lines in one transaction
    #[arg(long, default_value_t = ReplaySettings::CHUNK_LINES)]
    chunk_lines: u64,
    /// Write the report as JSON; `-` for standard output
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let log = EventLog::new(config.kafka.topic_prefix.clone(), config.append_limits(), None);
    replay::run(ReplaySettings {
        format: arguments.format,
        path: arguments.file,
        rejects: arguments.rejects,
        initial_stock: arguments.initial_stock,
        json: arguments.json,
        database_url: config.database.url.clone(),
        log,
        chunk_lines: arguments.chunk_lines,
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}
