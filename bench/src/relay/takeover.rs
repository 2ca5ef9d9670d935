//! How long events wait when the relay that owns their shards is killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use outbox::AppendLimits;
use sqlx::{Connection, PgConnection};

use crate::backlog::view;
use crate::ceilings::Ends;
use crate::drain::{PARTITIONS, TOPIC};
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// Events that are appended at once: of so many keys that every shard has some.
const EVENTS: u64 = 1_000;
/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two relays; the one that publishes is killed, and the time until every event appended thereafter is on the topic counts.
pub(super) async fn once(figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let topic = pipeline.topic(TOPIC);
    let ends = Ends::new(pipeline.brokers(), &topic, PARTITIONS)?;
    let mut connection = pipeline.connect().await?;
    let first = pipeline.start("relay")?;
    append(&mut connection, &topic, 0).await?;
    reach(&ends, EVENTS).await?;
    let second = pipeline.start("relay")?;
    settle(&mut connection).await?;
    append(&mut connection, &topic, EVENTS).await?;
    reach(&ends, 2 * EVENTS).await?;

    let killed = Instant::now();
    kill(first);
    append(&mut connection, &topic, 2 * EVENTS).await?;
    reach(&ends, 3 * EVENTS).await?;
    figures.add("relay.takeover_seconds", "s", killed.elapsed().as_secs_f64());
    drop(second);
    drop(connection);
    pipeline.remove().await
}

/// Ends it by `SIGKILL`: that is how a role is dropped.
fn kill(role: Role) {
    drop(role);
}

/// Waits until ownership does not change any more: relays that share need a moment for it.
async fn settle(connection: &mut PgConnection) -> Result<()> {
    const QUIET: Duration = Duration::from_secs(4);
    let (mut seen, mut since, begun) = (Vec::new(), Instant::now(), Instant::now());
    while since.elapsed() < QUIET && begun.elapsed() < PATIENCE {
        let epochs: Vec<i64> = sqlx::query_scalar("select epoch from outbox.shard order by shard")
            .fetch_all(&mut *connection)
            .await?;
        if epochs != seen {
            (seen, since) = (epochs, Instant::now());
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}

async fn append(connection: &mut PgConnection, topic: &str, first: u64) -> Result<()> {
    let events: Vec<_> = (first..first + EVENTS).map(|number| view(topic, number)).collect();
    let mut tx = connection.begin().await?;
    outbox::append(&mut tx, &events, &AppendLimits::default()).await?;
    tx.commit().await.context("appending")
}

/// Waits until the topic has at least so many records.
async fn reach(ends: &Ends, records: u64) -> Result<()> {
    let begun = Instant::now();
    while ends.total()? < records {
        if begun.elapsed() > PATIENCE {
            bail!("the topic has {} of {records} records after {} s", ends.total()?, PATIENCE.as_secs());
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}
