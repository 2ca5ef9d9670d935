//! Recorded files through the shop's own append path, in bulk.
//!
//! Invariants: the progress in a file moves in the transaction of the events that it stands for, so that an
//! interrupted replay goes on where it was and a repeated one adds nothing; every line has exactly one outcome.
//! A file is known by the SHA-256 of its content, compressed or not. A file with another content is another file, even
//! if it holds the same invoices: its lines are added to them.
//!
//! What a line means depends on the line alone, so the rejects file is written anew by every run, from the first line
//! on: after an interruption it is incomplete, after the run that goes on it is whole.

mod apply;
mod entry;
mod fields;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod online_retail;
mod reader;
mod report;
mod source;
mod store;
mod taobao;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use commerce_api::EventLog;
use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::output;
use apply::Replay;
use reader::{CHUNKS_WAITING_MAX, Chunk, Reading};
pub use report::{ReplayReport, Tally};
use source::Source;

/// Most lines of a chunk. With the contract's bounds an invoice's amount within one chunk cannot overflow.
const CHUNK_LINES_MAX: u64 = 9_000;

/// What a file's lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// UCI Online Retail: invoice lines.
    OnlineRetail,
    /// Taobao user behaviour: views, likes, purchases.
    Taobao,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::OnlineRetail, Self::Taobao];

    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnlineRetail => "online-retail",
            Self::Taobao => "taobao",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| format!("known formats: {}", known()))
    }
}

/// What is replayed, and where to.
#[derive(Clone)]
pub struct ReplaySettings {
    /// What the lines look like.
    pub format: Format,
    /// The file, plain or Zstandard; `-` is standard input.
    pub path: PathBuf,
    /// Where to write the lines that do not count: line number, reason, raw line.
    pub rejects: Option<PathBuf>,
    /// Units in stock of a product that the file makes known.
    pub initial_stock: i64,
    /// Where to write the report; `-` is standard output.
    pub json: Option<PathBuf>,
    /// The shop's database.
    pub database_url: String,
    /// Where events go.
    pub log: EventLog,
    /// Lines in one transaction.
    pub chunk_lines: u64,
}

impl ReplaySettings {
    /// Lines in one transaction, unless told otherwise: more gain no speed and hold locks for longer.
    pub const CHUNK_LINES: u64 = 4_000;
    /// Stock of a new product, unless told otherwise.
    pub const INITIAL_STOCK: i64 = 1_000;
}

/// Replays the file, prints the report and writes it as JSON if asked to.
///
/// # Errors
/// When the file cannot be read or is not of the format, or the database fails: what was committed until then stays,
/// and the same call goes on from there.
pub async fn run(settings: ReplaySettings) -> anyhow::Result<ReplayReport> {
    let report = Box::pin(replay(&settings)).await?;
    output::publish(&report, settings.json.as_deref())?;
    Ok(report)
}

async fn replay(settings: &ReplaySettings) -> anyhow::Result<ReplayReport> {
    ensure!(
        (1..=CHUNK_LINES_MAX).contains(&settings.chunk_lines),
        "a chunk has 1 to {CHUNK_LINES_MAX} lines, not {}",
        settings.chunk_lines
    );
    ensure!(settings.initial_stock >= 0, "the initial stock is negative");
    let options = runtime::database::connect_options(&settings.database_url, "commerce-replay")?;
    let mut connection = PgConnection::connect_with(&options).await.context("connecting to database.url")?;
    let (source, digest) = identify(settings.path.clone()).await?;
    let stored = store::open_progress(&mut connection, &digest, settings.format.as_str()).await?;
    ensure!(
        stored.format == settings.format.as_str(),
        "this file was replayed before as format {}",
        stored.format
    );
    let before = stored.report.0.clone();
    let resumed_after_line = u64::try_from(stored.lines_done)?;
    let mut replay = Replay {
        log: &settings.log,
        digest: &digest,
        initial_stock: settings.initial_stock,
        lines_done: resumed_after_line,
        total: before.clone(),
    };
    let begun = Instant::now();
    // A finished file is read again only for its rejects.
    if !stored.finished || settings.rejects.is_some() {
        let reading = Reading {
            format: settings.format,
            digest: digest.clone(),
            lines_done: resumed_after_line,
            chunk_lines: settings.chunk_lines,
        };
        let (mut chunks, reader) = start_reading(source, reading, settings.rejects.clone());
        let stopped = |line: u64| format!("stopped after line {line}; the same command goes on from there");
        while let Some(chunk) = chunks.recv().await {
            if !stored.finished {
                let line = replay.lines_done;
                replay.apply(&mut connection, &chunk).await.with_context(|| stopped(line))?;
            }
        }
        reader.await?.with_context(|| stopped(replay.lines_done))?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let added = difference(&replay.total, &before);
    Ok(ReplayReport {
        format: settings.format.to_string(),
        resumed_after_line,
        already_finished: stored.finished,
        products: store::count_products(&mut connection).await?,
        rows_per_second: per_second(added.rows, seconds),
        added,
        total: replay.total,
        seconds,
        digest,
    })
}

async fn identify(path: PathBuf) -> anyhow::Result<(Arc<Source>, String)> {
    tokio::task::spawn_blocking(move || {
        let source = Source::open(&path)?;
        let digest = source.digest().with_context(|| format!("reading {}", path.display()))?;
        Ok((Arc::new(source), digest))
    })
    .await?
}

/// Reads chunks on a thread of its own; it stops when the receiver is dropped.
fn start_reading(
    source: Arc<Source>,
    reading: Reading,
    rejects: Option<PathBuf>,
) -> (mpsc::Receiver<Chunk>, JoinHandle<anyhow::Result<()>>) {
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
    let reader = tokio::task::spawn_blocking(move || {
        let content = source.content("replaying")?;
        reading.run(content, rejects.as_deref(), &sender)
    });
    (chunks, reader)
}

fn difference(total: &Tally, before: &Tally) -> Tally {
    let by_name = |total: &std::collections::BTreeMap<String, u64>,
                   before: &std::collections::BTreeMap<String, u64>| {
        total
            .iter()
            .map(|(name, rows)| (name.clone(), rows - before.get(name).copied().unwrap_or(0)))
            .filter(|(_, rows)| *rows > 0)
            .collect()
    };
    Tally {
        rows: total.rows - before.rows,
        sale_lines: total.sale_lines - before.sale_lines,
        sale_orders: total.sale_orders - before.sale_orders,
        sale_units: total.sale_units - before.sale_units,
        cancelled_lines: total.cancelled_lines - before.cancelled_lines,
        cancelled_invoices: total.cancelled_invoices - before.cancelled_invoices,
        cancelled_units: total.cancelled_units - before.cancelled_units,
        views: total.views - before.views,
        likes: total.likes - before.likes,
        already_liked: total.already_liked - before.already_liked,
        ignored: by_name(&total.ignored, &before.ignored),
        rejected: by_name(&total.rejected, &before.rejected),
    }
}

fn per_second(rows: u64, seconds: f64) -> f64 {
    let rows = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
    if seconds > 0.0 { rows / seconds } else { 0.0 }
}
