//! `commerce outbox parked`: look at parked records, publish them after all, or discard them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use outbox::parked::{Decision, ParkedChange, ParkedContents, ParkedFilter, ParkedRecord, ParkedState};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::text::{shortened, text_or_hex};
use crate::cmd::output::answer;
use crate::cmd::terminal::printable;
use crate::config::{Config, mask_url};

/// Most characters of a payload or header that are shown; JSON has them all.
const SHOWN_CHARS_MAX: usize = 4_096;

/// What `commerce outbox parked` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Write the answer as JSON; `-` for standard output
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List records, key by key, in order
    List {
        #[command(flatten)]
        matching: Matching,
        /// Most records that are listed
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one record with its headers and payload
    Show {
        /// Row of the outbox (`ce_sequence`), as listed
        id: i64,
    },
    /// Publish the refused records that match after all, and those behind them, in order
    Unpark(Change),
    /// Give the records that match up for ever; those behind them are published
    Discard(Change),
}

/// Which records; several options must all match.
#[derive(clap::Args)]
struct Matching {
    /// Row of the outbox (`ce_sequence`), as listed; may be repeated
    #[arg(long)]
    id: Vec<i64>,
    /// Full topic name
    #[arg(long)]
    topic: Option<String>,
    /// Partition key
    #[arg(long)]
    key: Option<String>,
    /// Why the broker refused it
    #[arg(long, value_parser = ["too_large", "invalid", "unreadable"])]
    refusal: Option<String>,
    /// `refused`, or `waiting` behind a refused one
    #[arg(long, value_parser = ["refused", "waiting"])]
    state: Option<String>,
}

#[derive(clap::Args)]
struct Change {
    #[command(flatten)]
    matching: Matching,
    /// Every parked record
    #[arg(long)]
    all: bool,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who, for the audit
    #[arg(long, env = "USER", value_name = "NAME")]
    by: String,
    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let options = runtime::database::connect_options(&config.database.url, "commerce-outbox")?;
    let mut connection = PgConnection::connect_with(&options)
        .await
        .with_context(|| format!("{} does not answer", mask_url(&config.database.url)))?;
    let json = arguments.json.as_deref();
    match arguments.command {
        Command::List { matching, limit } => {
            let records = outbox::parked::list(&mut connection, &matching.filter(), limit).await?;
            answer(json, || Value::Array(records.iter().map(record_json).collect()), || table(&records))?;
        }
        Command::Show { id } => {
            let Some(contents) = outbox::parked::find(&mut connection, id).await? else {
                bail!("no parked record has the id {id}");
            };
            answer(json, || contents_json(&contents), || shown(&contents))?;
        }
        Command::Unpark(change) => {
            let (filter, decision) = change.decide()?;
            let changed = outbox::parked::unpark(&mut connection, &filter, &decision).await?;
            change.report(json, "unparked", changed)?;
        }
        Command::Discard(change) => {
            let (filter, decision) = change.decide()?;
            let changed = outbox::parked::discard(&mut connection, &filter, &decision).await?;
            change.report(json, "discarded", changed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Matching {
    fn filter(&self) -> ParkedFilter {
        let state = self.state.as_deref().map(|state| match state {
            "refused" => ParkedState::Refused,
            _ => ParkedState::Waiting,
        });
        ParkedFilter {
            ids: self.id.clone(),
            topic: self.topic.clone(),
            key: self.key.clone(),
            reason: self.refusal.clone(),
            state,
        }
    }
}

impl Change {
    fn decide(&self) -> anyhow::Result<(ParkedFilter, Decision<'_>)> {
        let filter = self.matching.filter();
        if self.all != (filter == ParkedFilter::default()) {
            bail!("say which records by --id, --topic, --key, --refusal or --state; or else --all");
        }
        Ok((filter, Decision { by: &self.by, why: &self.reason, dry_run: self.dry_run }))
    }

    fn report(&self, json: Option<&Path>, done: &str, change: ParkedChange) -> anyhow::Result<()> {
        let ParkedChange { records, keys } = change;
        let (would, note) = if self.dry_run { ("would be ", ", nothing was changed") } else { ("", "") };
        answer(
            json,
            || json!({"action": done, "dryRun": self.dry_run, "records": records, "keys": keys}),
            || format!("{records} records of {keys} keys {would}{done}{note}\n"),
        )
    }
}

fn table(records: &[ParkedRecord]) -> String {
    if records.is_empty() {
        return "no parked record matches\n".to_owned();
    }
    let mut text = format!(
        "{:>12}  {:<8}  {:<10}  {:>8}  {:>9}  {:<20}  {}\n",
        "ID", "STATE", "REFUSAL", "ATTEMPTS", "BYTES", "PARKED AT", "TOPIC / KEY / TYPE"
    );
    for record in records {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>12}  {:<8}  {:<10}  {:>8}  {:>9}  {:<20}  {} / {} / {}",
            record.id,
            record.state.name(),
            record.reason.as_deref().unwrap_or("-"),
            record.attempts,
            record.bytes,
            record.parked_at.format("%Y-%m-%dT%H:%M:%SZ"),
            printable(&record.topic),
            printable(&record.partition_key),
            printable(&record.event_type),
        );
    }
    text
}

fn shown(contents: &ParkedContents) -> String {
    let ParkedContents { record, source, aggregate: (kind, aggregate_id, version), .. } = contents;
    let version = version.map_or_else(String::new, |version| format!(", version {version}"));
    let mut text = String::new();
    let lines: [(&str, String); 14] = [
        ("id", record.id.to_string()),
        ("state", record.state.name().to_owned()),
        ("refusal", record.reason.clone().unwrap_or_else(|| "-".to_owned())),
        ("error", record.error.clone().unwrap_or_else(|| "-".to_owned())),
        ("attempts", record.attempts.to_string()),
        ("parked at", record.parked_at.to_rfc3339()),
        ("topic", record.topic.clone()),
        ("key", record.partition_key.clone()),
        ("event", format!("{} of {kind} {aggregate_id}{version}", record.event_type)),
        ("ce_id", record.event_id.to_string()),
        ("ce_source", source.clone()),
        ("ce_time", record.occurred_at.to_rfc3339()),
        ("traceparent", contents.traceparent.clone().unwrap_or_else(|| "-".to_owned())),
        ("bytes", record.bytes.to_string()),
    ];
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<12} {}", printable(&value));
    }
    match &contents.headers {
        Some(headers) => {
            for (name, value) in headers {
                let _ = writeln!(text, "{:<12} {}: {}", "header", printable(name), bytes_shown(value));
            }
        }
        None => {
            let _ = writeln!(text, "{:<12} not readable as stored", "headers");
        }
    }
    let payload = contents.payload.as_deref().map_or_else(|| "none (tombstone)".to_owned(), bytes_shown);
    let _ = writeln!(text, "{:<12} {payload}", "payload");
    text
}

fn bytes_shown(bytes: &[u8]) -> String {
    let (kind, text) = text_or_hex(bytes);
    let (shown, left) = shortened(&text, SHOWN_CHARS_MAX);
    let prefix = if kind == "hex" { "0x" } else { "" };
    let rest =
        if left > 0 { format!(" … and {left} more characters: --json has them") } else { String::new() };
    format!("{prefix}{}{rest}", printable(shown))
}

fn bytes_json(bytes: &[u8]) -> Value {
    let (kind, text) = text_or_hex(bytes);
    json!({kind: text})
}

fn record_json(record: &ParkedRecord) -> Value {
    json!({
        "id": record.id,
        "shard": record.shard,
        "state": record.state.name(),
        "refusal": record.reason,
        "error": record.error,
        "attempts": record.attempts,
        "parkedAt": record.parked_at,
        "topic": record.topic,
        "key": record.partition_key,
        "eventId": record.event_id,
        "eventType": record.event_type,
        "occurredAt": record.occurred_at,
        "bytes": record.bytes,
    })
}

fn contents_json(contents: &ParkedContents) -> Value {
    let (kind, aggregate_id, version) = &contents.aggregate;
    let headers = contents.headers.as_ref().map(|headers| {
        let pairs = headers.iter().map(|(name, value)| json!({"name": name, "value": bytes_json(value)}));
        pairs.collect::<Vec<_>>()
    });
    json!({
        "record": record_json(&contents.record),
        "source": contents.source,
        "aggregate": {"type": kind, "id": aggregate_id, "version": version},
        "traceparent": contents.traceparent,
        "headers": headers,
        "payload": contents.payload.as_deref().map(bytes_json),
    })
}
