//! `commerce outbox status`: shards, segments and ticks, as the tables tell. Changes nothing.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use outbox::Overview;
use outbox::overview::{Behind, Rows, SegmentOverview, ShardOverview};
use outbox::retention::Phase;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::config::{Config, mask_url};

/// A server that does not answer for so long is away.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest statement. Counting that takes longer is cut short, and said to be.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// What `commerce outbox status` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the status as JSON instead; `-` for standard output
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let url = mask_url(&config.database.url);
    let overview = tokio::time::timeout(PATIENCE, load(config))
        .await
        .with_context(|| format!("{url} does not answer within {} s", PATIENCE.as_secs()))?
        .with_context(|| format!("{url} holds no outbox that can be read; `commerce migrate` creates it"))?;
    match arguments.json {
        None => print!("{}", Text(&overview)),
        Some(path) => {
            let text = serde_json::to_string_pretty(&json_of(&overview))? + "\n";
            if path.as_os_str() == "-" {
                print!("{text}");
            } else {
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn load(config: &Config) -> anyhow::Result<Overview> {
    let options = runtime::database::connect_options(&config.database.url, "commerce-outbox-status")?;
    let mut connection = PgConnection::connect_with(&options).await?;
    Ok(outbox::overview::load(&mut connection, STATEMENT_TIMEOUT).await?)
}

const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Filling => "filling",
        Phase::Settling | Phase::Due => "past",
    }
}

/// Why a segment still holds what it holds.
const fn content_name(segment: &SegmentOverview) -> &'static str {
    match (segment.is_unpublished, segment.came_round) {
        (true, true) => "unpublished, turn came again",
        (true, false) => "unpublished",
        (false, true) => "published, turn came again",
        (false, false) => "published or empty",
    }
}

fn json_of(overview: &Overview) -> Value {
    let seconds = |age: Option<Duration>| age.map(|age| age.as_secs_f64());
    let behind = |behind: &Behind| {
        json!({
            "events": behind.rows.count,
            "isEstimate": behind.rows.is_estimate,
            "oldestAgeSeconds": seconds(behind.oldest_age),
        })
    };
    let rows = |rows: Rows| json!({ "events": rows.count, "isEstimate": rows.is_estimate });
    let shard = |shard: &ShardOverview| {
        json!({
            "shard": shard.shard,
            "owner": shard.owner,
            "epoch": shard.epoch,
            "leaseRemainingSeconds": seconds(shard.lease_remaining),
            "behind": behind(&shard.behind),
            "parked": rows(shard.parked),
        })
    };
    let segment = |segment: &SegmentOverview| {
        json!({
            "segment": segment.segment,
            "phase": phase_name(segment.phase),
            "isUnpublished": segment.is_unpublished,
            "cameRound": segment.came_round,
            "bytes": segment.bytes,
            "eventsEstimate": segment.rows_estimate,
            "emptiedAgoSeconds": segment.emptied_ago.as_secs(),
        })
    };
    json!({
        "source": {
            "kind": "tables outbox.*",
            "database": overview.source.database,
            "server": overview.source.server.to_string(),
            "isReplica": overview.source.is_replica,
            "at": overview.source.at.to_rfc3339(),
            "isCutShort": overview.is_cut_short,
        },
        "total": behind(&overview.total()),
        "parked": rows(overview.parked()),
        "shards": overview.shards.iter().map(shard).collect::<Vec<_>>(),
        "segments": overview.segments.iter().map(segment).collect::<Vec<_>>(),
        "ticks": { "count": overview.ticks.count, "lastAgeSeconds": seconds(overview.ticks.last_age) },
    })
}

/// The status for a person.
struct Text<'o>(&'o Overview);

impl fmt::Display for Text<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(overview) = self;
        let source = &overview.source;
        writeln!(
            to,
            "source: tables outbox.* of database {} on server {} at {}",
            source.database,
            source.server,
            source.at.to_rfc3339()
        )?;
        if source.is_replica {
            writeln!(to, "        a replica: it may lag behind its primary")?;
        }
        if overview.is_cut_short {
            let limit = STATEMENT_TIMEOUT.as_secs();
            writeln!(to, "        counting took longer than {limit} s: events are reckoned from samples")?;
        }
        writeln!(
            to,
            "\n{:>5}  {:<40} {:>8} {:>8}  {:>16} {:>8} {:>12}",
            "shard", "owner", "epoch", "lease", "unpublished", "oldest", "parked"
        )?;
        for shard in &overview.shards {
            write_shard(to, shard)?;
        }
        let total = overview.total();
        let (rows, oldest) = (total.rows.to_string(), age(total.oldest_age));
        let parked = overview.parked().to_string();
        writeln!(to, "{:>5}  {:<40} {:>8} {:>8}  {rows:>16} {oldest:>8} {parked:>12}", "total", "", "", "")?;
        writeln!(to, "\n{:>7}  {:<8} {:>10} {:>16}  holds", "segment", "phase", "size", "events")?;
        for segment in &overview.segments {
            write_segment(to, segment)?;
        }
        let ticks = overview.ticks;
        writeln!(to, "\nticks: {}, age of the last: {}", ticks.count, age(ticks.last_age))
    }
}

fn write_shard(to: &mut fmt::Formatter<'_>, shard: &ShardOverview) -> fmt::Result {
    let (rows, oldest) = (shard.behind.rows.to_string(), age(shard.behind.oldest_age));
    let lease = shard.lease_remaining.map_or_else(|| "none".to_owned(), |left| age(Some(left)));
    // A name comes from a setting, and is printed to a terminal.
    let owner = shard.owner.as_deref().unwrap_or("-").escape_debug().to_string();
    let (number, epoch, parked) = (shard.shard, shard.epoch, shard.parked.to_string());
    writeln!(to, "{number:>5}  {owner:<40} {epoch:>8} {lease:>8}  {rows:>16} {oldest:>8} {parked:>12}")
}

fn write_segment(to: &mut fmt::Formatter<'_>, segment: &SegmentOverview) -> fmt::Result {
    let events = segment.rows_estimate.map_or_else(|| "unknown".to_owned(), |rows| format!("about {rows}"));
    let size = format!("{} KiB", segment.bytes / 1024);
    let (phase, holds) = (phase_name(segment.phase), content_name(segment));
    writeln!(to, "{:>7}  {phase:<8} {size:>10} {events:>16}  {holds}", segment.segment)
}

fn age(age: Option<Duration>) -> String {
    age.map_or_else(|| "-".to_owned(), |age| format!("{:.1} s", age.as_secs_f64()))
}
