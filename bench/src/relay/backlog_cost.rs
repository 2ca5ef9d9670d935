//! What an event of a large backlog costs beside one of a small backlog, and the memory that the relay needs for it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::PgConnection;

use crate::backlog;
use crate::ceilings::{Ends, rate};
use crate::drain::{PARTITIONS, TOPIC};
use crate::figures::Figures;
use crate::pipeline::Pipeline;

/// Events of a small backlog.
const SMALL: u64 = 100_000;
/// Events of a giant transaction.
const TRANSACTION: u64 = 2_000_000;
/// Small backlogs of one run: each takes a second, so one alone would tell little.
const SMALL_DRAINS: usize = 5;

/// How often progress is looked at: small against the half second that a small drain takes.
const INTERVAL: Duration = Duration::from_millis(5);

pub(super) async fn once(events: u64, figures: &mut Figures) -> Result<()> {
    let mut small = Vec::new();
    for _ in 0..SMALL_DRAINS {
        small.push(drain(SMALL, Filled::OverTime).await?.rate);
    }
    small.sort_by(f64::total_cmp);
    let small = *small.get(SMALL_DRAINS / 2).context("no small drain")?;
    let large = drain(events, Filled::OverTime).await?;
    let at_once = drain(TRANSACTION, Filled::AtOnce).await?;
    figures.add("relay.rss_backlog", "MB", large.resident_max);
    figures.add("relay.drain_small", "events/s", small);
    figures.add("relay.drain_backlog", "events/s", large.rate);
    figures.add("relay.backlog_cost_ratio", "of the cost at 100 k", small / large.rate);
    figures.add("relay.rss_transaction", "MB", at_once.resident_max);
    figures.add("relay.drain_transaction", "events/s", at_once.rate);
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Filled {
    /// By many transactions, with ticks.
    OverTime,
    /// By one.
    AtOnce,
}

struct Drained {
    /// Events per second.
    rate: f64,
    /// The relay's, MB.
    resident_max: f64,
}

/// Events per second from the claim of the shards to the last record. Not from the first record: a small backlog is one
/// window, and the server has read and sorted all of it by then.
async fn drain(events: u64, filled: Filled) -> Result<Drained> {
    let pipeline = Pipeline::create().await?;
    match filled {
        Filled::OverTime => backlog::fill(&pipeline, events).await?,
        Filled::AtOnce => backlog::fill_at_once(&pipeline, events).await?,
    }
    let ends = Ends::new(pipeline.brokers(), &pipeline.topic(TOPIC), PARTITIONS)?;
    let mut connection = pipeline.connect().await?;
    let mut role = pipeline.start("relay")?;
    while !is_claimed(&mut connection).await? {
        role.ensure_running()?;
        tokio::time::sleep(INTERVAL).await;
    }
    let begun = Instant::now();
    while ends.total()? < events {
        role.ensure_running()?;
        tokio::time::sleep(INTERVAL).await;
    }
    let elapsed = begun.elapsed();
    let resident_max = role.usage()?.resident_max;
    drop((role, connection));
    pipeline.remove().await?;
    Ok(Drained { rate: rate(events, elapsed), resident_max })
}

async fn is_claimed(connection: &mut PgConnection) -> Result<bool> {
    let claimed = "select exists (select from outbox.shard where owner is not null)";
    Ok(sqlx::query_scalar(claimed).fetch_one(connection).await?)
}
