//! The consumers, and the publisher of their dead letters.

use std::convert::Infallible;

use anyhow::Context;
use commerce_streamer::StreamerParts;
use inbox::dead_letter::DeadLetterPublisher;
use runtime::{TaskKind, database};

use super::{Process, Role};

pub(super) fn start(process: &mut Process<'_>) -> anyhow::Result<()> {
    let config = process.config;
    let url = config.metrics_url();
    let options = database::connect_options(url, Role::Streamer.name())?;
    let mut pool = config.database.clone();
    url.clone_into(&mut pool.url);
    let parts = StreamerParts {
        options: options.clone(),
        pool: database::pool(&pool, Role::Streamer.name())?,
        cache: process.cache()?,
        breaker: config.cache_breaker(),
        sweeper: config.sweeper.clone(),
        hourly: config.hourly,
    };
    let health = commerce_streamer::start(
        &config.streamer.consumers,
        |group, topics| config.consumer(group, topics),
        &parts,
        &mut process.lifecycle,
    )
    .context("streamer.consumers")?;
    process.health.extend(health);
    let retention = config.dedup_retention();
    // Refused here and not in the task, so that the process does not start at all.
    retention.check().context("streamer.dedup_*")?;
    let forgetting = inbox::retention::run(retention, options.clone(), process.lifecycle.shutdown());
    process.lifecycle.spawn(TaskKind::DedupRetention, forgetting);
    let publisher = DeadLetterPublisher::new(config.dead_letters(), options)?;
    let shutdown = process.lifecycle.shutdown();
    process.lifecycle.spawn(TaskKind::DeadLetterPublisher, async move {
        publisher.run(shutdown).await;
        Ok::<_, Infallible>(())
    });
    Ok(())
}
