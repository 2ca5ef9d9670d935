//! A prepared backlog through one relay and through two, beside the bare producer.

use anyhow::Result;

use crate::backlog;
use crate::ceilings::{Ends, rate};
use crate::drain::{PARTITIONS, TOPIC, ceiling, measure, note_usage};
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

pub(super) async fn once(events: u64, figures: &mut Figures) -> Result<()> {
    let produced = ceiling(events).await?;
    figures.add("ceiling.produce", "events/s", produced);
    let one = drain(events, 1, figures).await?;
    figures.add("relay.drain", "events/s", one);
    figures.add("relay.drain_ratio", "of ceiling.produce", one / produced);
    let two = drain(events, 2, figures).await?;
    figures.add("relay.two_relays_ratio", "of relay.drain", two / one);
    Ok(())
}

/// Events per second of so many relays, from the first record on the topic to the last.
async fn drain(events: u64, relays: usize, figures: &mut Figures) -> Result<f64> {
    let pipeline = Pipeline::create().await?;
    backlog::fill(&pipeline, events).await?;
    let ends = Ends::new(pipeline.brokers(), &pipeline.topic(TOPIC), PARTITIONS)?;
    let mut roles = (0..relays).map(|_| pipeline.start("relay")).collect::<Result<Vec<Role>>>()?;
    let (published, elapsed) = measure(&mut roles, events, async || ends.total()).await?;
    if let [role] = &roles[..] {
        note_usage(figures, role, events, ["relay.rss", "relay.cpu"])?;
    }
    drop(roles);
    pipeline.remove().await?;
    Ok(rate(published, elapsed))
}
