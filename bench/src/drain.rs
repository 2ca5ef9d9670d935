//! `drain`: a prepared backlog through the relay, then through the streamer; nothing else runs.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::PgConnection;

use crate::Common;
use crate::backlog::{self, PAYLOAD_BYTES};
use crate::ceilings::{self, rate};
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// Partitions of each topic, as `commerce migrate` creates them.
pub(crate) const PARTITIONS: i32 = 6;
/// The topic that carries the backlog.
pub(crate) const TOPIC: &str = "view-events";
/// How often progress is looked at: small against the seconds that a drain takes.
const INTERVAL: Duration = Duration::from_millis(20);

/// `cargo x bench drain`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Events of the backlog
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    #[command(flatten)]
    common: Common,
}

/// Runs ceilings and drains in turn and prints the figures.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = Figures::default();
    figures.setting("events", &arguments.events);
    figures.setting("payload_bytes", &PAYLOAD_BYTES);
    figures.setting("partitions", &PARTITIONS);
    for number in 1..=arguments.common.runs {
        eprintln!("run {number} of {}", arguments.common.runs);
        once(arguments.events, &mut figures).await?;
    }
    figures.finish(arguments.common.json.as_deref())
}

async fn once(events: u64, figures: &mut Figures) -> Result<()> {
    let produced = ceiling(events).await?;
    figures.add("ceiling.produce", "events/s", produced);

    let pipeline = Pipeline::create().await?;
    eprintln!("  filling the outbox with {events} events");
    let begun = Instant::now();
    backlog::fill(&pipeline, events).await?;
    figures.add("outbox.fill", "events/s", rate(events, begun.elapsed()));
    let relayed = relay(&pipeline, events, figures).await?;
    figures.add("drain.relay", "events/s", relayed);
    figures.add("drain.relay_ratio", "of ceiling.produce", relayed / produced);

    let (brokers, topic) = (pipeline.brokers().to_owned(), pipeline.topic(TOPIC));
    let consumed =
        tokio::task::spawn_blocking(move || ceilings::consume(&brokers, &[topic], PARTITIONS, events))
            .await??;
    figures.add("ceiling.consume", "events/s", consumed);
    let streamed = stream(&pipeline, events, figures).await?;
    figures.add("drain.streamer", "events/s", streamed);
    figures.add("drain.streamer_ratio", "of ceiling.consume", streamed / consumed);
    pipeline.remove().await
}

/// Events per second of the bare producer, in a topic of its own.
pub(crate) async fn ceiling(events: u64) -> Result<f64> {
    let bare = Pipeline::create().await?;
    let (brokers, topic) = (bare.brokers().to_owned(), bare.topic(TOPIC));
    let produced = tokio::task::spawn_blocking(move || ceilings::produce(&brokers, &topic, events)).await??;
    bare.remove().await?;
    Ok(produced)
}

/// Events per second from the first record on the topic to the last.
async fn relay(pipeline: &Pipeline, events: u64, figures: &mut Figures) -> Result<f64> {
    let ends = ceilings::Ends::new(pipeline.brokers(), &pipeline.topic(TOPIC), PARTITIONS)?;
    let mut roles = [pipeline.start("relay")?];
    let (published, elapsed) = measure(&mut roles, events, async || ends.total()).await?;
    note_usage(figures, &roles[0], events, ["drain.relay_resident", "drain.relay_cpu"])?;
    Ok(rate(published, elapsed))
}

/// Events per second from the first that is applied to the last.
async fn stream(pipeline: &Pipeline, events: u64, figures: &mut Figures) -> Result<f64> {
    let mut connection = pipeline.connect().await?;
    let mut roles = [pipeline.start("streamer")?];
    let (applied, elapsed) = measure(&mut roles, events, async || applied(&mut connection).await).await?;
    note_usage(figures, &roles[0], events, ["drain.streamer_resident", "drain.streamer_cpu"])?;
    let counted: i64 = sqlx::query_scalar("select sum(view_count)::bigint from metrics.product_metrics")
        .fetch_one(&mut connection)
        .await?;
    anyhow::ensure!(u64::try_from(counted)? == events, "{counted} views counted, {events} expected");
    Ok(rate(applied, elapsed))
}

/// Watches `progress` from its first step, so that start-up is not measured, to `events`; answers the events of that
/// time and its length.
pub(crate) async fn measure(
    roles: &mut [Role],
    events: u64,
    mut progress: impl AsyncFnMut() -> Result<u64>,
) -> Result<(u64, Duration)> {
    let mut first = None;
    loop {
        let done = progress().await?;
        let now = Instant::now();
        match first {
            None if done >= events => {
                anyhow::bail!("{events} events are too few: they were done before the first look")
            }
            None if done > 0 => first = Some((done, now)),
            Some((before, begun)) if done >= events => return Ok((done - before, now - begun)),
            _ => {}
        }
        for role in roles.iter_mut() {
            role.ensure_running()?;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn applied(connection: &mut PgConnection) -> Result<u64> {
    let sum: i64 = sqlx::query_scalar("select coalesce(sum(handled), 0)::bigint from inbox.progress")
        .fetch_one(connection)
        .await?;
    Ok(u64::try_from(sum)?)
}

pub(crate) fn note_usage(
    figures: &mut Figures,
    role: &Role,
    events: u64,
    names: [&'static str; 2],
) -> Result<()> {
    let usage = role.usage()?;
    figures.add(names[0], "MB", usage.resident_max);
    let micros_an_event = usage.cpu.as_secs_f64() * 1e6 / rate(events, Duration::from_secs(1));
    figures.add(names[1], "µs/event", micros_an_event);
    Ok(())
}
