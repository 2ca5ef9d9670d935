//! A prepared backlog through one relay and through two, beside the bare producer.

use anyhow::Result;
use sqlx::PgConnection;

use crate::backlog;
use crate::ceilings::{Ends, rate};
use crate::drain::{PARTITIONS, TOPIC, ceiling, measure, note_usage};
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// Shards of an outbox.
const SHARDS: usize = 16;

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

/// Events per second of so many relays, from the first record on the topic, or from when they share the shards evenly, to the
/// last: how fast a relay gets its share is another question than how fast it works.
async fn drain(events: u64, relays: usize, figures: &mut Figures) -> Result<f64> {
    let pipeline = Pipeline::create().await?;
    backlog::fill(&pipeline, events).await?;
    let ends = Ends::new(pipeline.brokers(), &pipeline.topic(TOPIC), PARTITIONS)?;
    let mut roles = (0..relays).map(|_| pipeline.start("relay")).collect::<Result<Vec<Role>>>()?;
    let mut connection = pipeline.connect().await?;
    let mut is_shared = relays == 1;
    let progress = async || {
        is_shared = is_shared || owners(&mut connection).await? == vec![SHARDS / relays; relays];
        if is_shared { ends.total() } else { Ok(0) }
    };
    let (published, elapsed) = measure(&mut roles, events, progress).await?;
    drop(connection);
    if let [role] = &roles[..] {
        note_usage(figures, role, events, ["relay.rss", "relay.cpu"])?;
    }
    drop(roles);
    pipeline.remove().await?;
    Ok(rate(published, elapsed))
}

/// How many shards each relay owns.
async fn owners(connection: &mut PgConnection) -> Result<Vec<usize>> {
    let shards: Vec<i64> =
        sqlx::query_scalar("select count(*) from outbox.shard where owner is not null group by owner")
            .fetch_all(connection)
            .await?;
    Ok(shards.into_iter().map(usize::try_from).collect::<Result<_, _>>()?)
}
