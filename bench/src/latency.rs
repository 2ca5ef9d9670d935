//! `latency`: commit→visible at a steady rate, and the cost of doing nothing.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use outbox::AppendLimits;
use sqlx::{Connection, PgConnection};

use crate::Common;
use crate::backlog;
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// How often the probe looks whether its event is visible.
const PROBE_INTERVAL: Duration = Duration::from_micros(500);
/// Time for the roles to take their shards and partitions before anything is measured.
const WARM_UP_EVENTS: u64 = 200;

/// `cargo x bench latency`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Events per second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Seconds under that rate in each run
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Seconds of idling in each run
    #[arg(long, default_value_t = 10)]
    idle_seconds: u32,
    #[command(flatten)]
    common: Common,
}

/// Runs and prints the figures.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = Figures::default();
    figures.setting("rate", &arguments.rate);
    figures.setting("seconds", &arguments.seconds);
    figures.setting("idle_seconds", &arguments.idle_seconds);
    for number in 1..=arguments.common.runs {
        eprintln!("run {number} of {}", arguments.common.runs);
        once(arguments, &mut figures).await?;
    }
    figures.finish(arguments.common.json.as_deref())
}

async fn once(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let (relay, streamer) = (pipeline.start("relay")?, pipeline.start("streamer")?);
    let mut writer = pipeline.connect().await?;
    let mut reader = pipeline.connect().await?;
    let topic = pipeline.topic("view-events");
    for number in 0..WARM_UP_EVENTS {
        append(&mut writer, &topic, number).await?;
    }
    visible(&mut reader, WARM_UP_EVENTS).await?;

    let idle = Duration::from_secs(arguments.idle_seconds.into());
    let before = [relay.usage()?.cpu, streamer.usage()?.cpu];
    tokio::time::sleep(idle).await;
    note_share(figures, "idle.relay_cpu", &relay, before[0], idle)?;
    note_share(figures, "idle.streamer_cpu", &streamer, before[1], idle)?;

    let latencies = steady(arguments, &mut writer, &mut reader, &topic).await?;
    figures.add("visible.p50", "ms", millis(latencies.value_at_quantile(0.5)));
    figures.add("visible.p99", "ms", millis(latencies.value_at_quantile(0.99)));
    pipeline.remove().await
}

/// One event each interval; every one is timed from the return of its commit to the read that shows it.
async fn steady(
    arguments: &Arguments,
    writer: &mut PgConnection,
    reader: &mut PgConnection,
    topic: &str,
) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / arguments.rate);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let total = u64::from(arguments.rate * arguments.seconds);
    let (sender, mut committed) = tokio::sync::mpsc::unbounded_channel();
    let write = async {
        for number in WARM_UP_EVENTS..WARM_UP_EVENTS + total {
            pace.tick().await;
            append(writer, topic, number).await?;
            sender.send(Instant::now())?;
        }
        drop(sender);
        anyhow::Ok(())
    };
    let read = async {
        let mut expected = WARM_UP_EVENTS;
        while let Some(instant) = committed.recv().await {
            expected += 1;
            visible(reader, expected).await?;
            latencies.record(u64::try_from(instant.elapsed().as_micros())?)?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(write, read)?;
    Ok(latencies)
}

async fn append(connection: &mut PgConnection, topic: &str, number: u64) -> Result<()> {
    let mut tx = connection.begin().await?;
    outbox::append(&mut tx, &[backlog::view(topic, number)], &AppendLimits::default()).await?;
    tx.commit().await?;
    Ok(())
}

/// Returns when at least `events` views are counted.
async fn visible(connection: &mut PgConnection, events: u64) -> Result<()> {
    let events = i64::try_from(events)?;
    loop {
        let counted: i64 = sqlx::query_scalar("select coalesce(sum(units), 0)::bigint from metrics.applied")
            .fetch_one(&mut *connection)
            .await?;
        if counted >= events {
            return Ok(());
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

fn note_share(
    figures: &mut Figures,
    name: &'static str,
    role: &Role,
    before: Duration,
    length: Duration,
) -> Result<()> {
    let used = role.usage()?.cpu.saturating_sub(before);
    figures.add(name, "% of a core", used.as_secs_f64() / length.as_secs_f64() * 100.0);
    Ok(())
}

fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1_000.0
}
