//! What an event of a large backlog costs beside one of a small backlog, and the memory that the relay needs for it.

use anyhow::{Context, Result};

use crate::backlog;
use crate::ceilings::{Ends, rate};
use crate::drain::{PARTITIONS, TOPIC, measure};
use crate::figures::Figures;
use crate::pipeline::Pipeline;

/// Events of a small backlog.
const SMALL: u64 = 100_000;
/// Small backlogs of one run: each takes a second, so one alone would tell little.
const SMALL_DRAINS: usize = 5;

pub(super) async fn once(events: u64, figures: &mut Figures) -> Result<()> {
    let mut small = Vec::new();
    for _ in 0..SMALL_DRAINS {
        small.push(drain(SMALL, figures, None).await?);
    }
    small.sort_by(f64::total_cmp);
    let small = *small.get(SMALL_DRAINS / 2).context("no small drain")?;
    let large = drain(events, figures, Some("relay.rss_backlog")).await?;
    figures.add("relay.drain_small", "events/s", small);
    figures.add("relay.drain_backlog", "events/s", large);
    figures.add("relay.backlog_cost_ratio", "of the cost at 100 k", small / large);
    Ok(())
}

async fn drain(events: u64, figures: &mut Figures, memory: Option<&'static str>) -> Result<f64> {
    let pipeline = Pipeline::create().await?;
    backlog::fill(&pipeline, events).await?;
    let ends = Ends::new(pipeline.brokers(), &pipeline.topic(TOPIC), PARTITIONS)?;
    let mut roles = [pipeline.start("relay")?];
    let (published, elapsed) = measure(&mut roles, events, async || ends.total()).await?;
    if let Some(name) = memory {
        figures.add(name, "MB", roles[0].usage()?.resident_max);
    }
    drop(roles);
    pipeline.remove().await?;
    Ok(rate(published, elapsed))
}
