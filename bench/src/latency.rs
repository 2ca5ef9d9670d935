//! `latency`: commit→visible at a steady rate, and the cost of doing nothing.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use outbox::AppendLimits;
use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::Common;
use crate::backlog;
use crate::drain::TOPIC;
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// Pause of a probe before it looks again.
const PROBE_PAUSE: Duration = Duration::from_micros(500);
/// Time at the rate before anything is measured, in which the roles take their shards and partitions.
pub(crate) const WARM_UP: Duration = Duration::from_secs(3);
/// Connections that share the rate.
const WRITERS: u32 = 8;
/// Products of each writer. No other writes them, and events of one product keep their order: when n of them are counted, the
/// n-th commit is visible.
const WRITER_PRODUCTS: u64 = 8;

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
    let mut roles = [pipeline.start("relay")?, pipeline.start("streamer")?];
    measure(&pipeline, &mut roles, arguments.rate, WARM_UP).await?;

    let idle = Duration::from_secs(arguments.idle_seconds.into());
    let before = [roles[0].usage()?.cpu, roles[1].usage()?.cpu];
    tokio::time::sleep(idle).await;
    note_share(figures, "idle.relay_cpu", &roles[0], before[0], idle)?;
    note_share(figures, "idle.streamer_cpu", &roles[1], before[1], idle)?;

    let length = Duration::from_secs(arguments.seconds.into());
    let latencies = measure(&pipeline, &mut roles, arguments.rate, length).await?;
    figures.add("visible.p50", "ms", quantile(&latencies, 0.5));
    figures.add("visible.p99", "ms", quantile(&latencies, 0.99));
    pipeline.remove().await
}

/// One event in each transaction, so many a second; microseconds from the return of each commit to the read that shows its
/// count.
pub(crate) async fn measure(
    pipeline: &Pipeline,
    roles: &mut [Role],
    rate: u32,
    length: Duration,
) -> Result<Histogram<u64>> {
    let mut reader = pipeline.connect().await?;
    let mut counted = counts(&mut reader).await?;
    let (sender, mut committed) = tokio::sync::mpsc::unbounded_channel();
    let writing = write(pipeline, rate, length, sender);
    let reading = async {
        let mut latencies = Histogram::new(3)?;
        // Commits whose count was not read yet, the oldest of a product first.
        let mut waiting: HashMap<i64, VecDeque<Instant>> = HashMap::new();
        while !(committed.is_closed() && committed.is_empty() && waiting.values().all(VecDeque::is_empty)) {
            while let Ok((product, instant)) = committed.try_recv() {
                waiting.entry(product).or_default().push_back(instant);
            }
            for (product, count) in counts(&mut reader).await? {
                let now = Instant::now();
                let queue = waiting.entry(product).or_default();
                let counted = counted.entry(product).or_default();
                while *counted < count {
                    // A count may be read before its writer has heard of the commit.
                    let Some(instant) = queue.pop_front() else { break };
                    *counted += 1;
                    latencies.record(u64::try_from((now - instant).as_micros())?)?;
                }
            }
            for role in roles.iter_mut() {
                role.ensure_running()?;
            }
            probe_pause().await?;
        }
        anyhow::Ok(latencies)
    };
    let ((), latencies) = tokio::try_join!(writing, reading)?;
    Ok(latencies)
}

/// Tells each commit when it has returned.
async fn write(
    pipeline: &Pipeline,
    rate: u32,
    length: Duration,
    committed: UnboundedSender<(i64, Instant)>,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    let turns = u64::from(rate) * length.as_secs() / u64::from(WRITERS);
    for writer in 0..WRITERS {
        let mut connection = pipeline.connect().await?;
        let (topic, committed) = (pipeline.topic(TOPIC), committed.clone());
        tasks.spawn(async move {
            let begin = Instant::now() + Duration::from_secs(1) / rate * writer;
            let mut pace = tokio::time::interval_at(begin.into(), Duration::from_secs(1) * WRITERS / rate);
            for turn in 0..turns {
                pace.tick().await;
                let product = u64::from(writer) * WRITER_PRODUCTS + turn % WRITER_PRODUCTS + 1;
                let event = backlog::view_of(&topic, product, turn);
                let mut tx = connection.begin().await?;
                outbox::append(&mut tx, &[event], &AppendLimits::default()).await?;
                tx.commit().await?;
                committed.send((i64::try_from(product)?, Instant::now()))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "tokio's timer is too coarse for a probe")]
fn sleep_precisely() {
    std::thread::sleep(PROBE_PAUSE);
}

/// Waits until a probe looks again. On a thread, because tokio counts in milliseconds: its shortest sleeps take one to two of them,
/// which would be counted as the pipeline's.
pub(crate) async fn probe_pause() -> Result<()> {
    Ok(tokio::task::spawn_blocking(sleep_precisely).await?)
}

/// Views of each product.
async fn counts(connection: &mut PgConnection) -> Result<HashMap<i64, i64>> {
    let rows: Vec<(i64, i64)> = sqlx::query_as("select product_id, view_count from metrics.product_metrics")
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().collect())
}

/// The share of a core that a role has used since.
pub(crate) fn note_share(
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

/// Milliseconds.
pub(crate) fn quantile(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_micros(latencies.value_at_quantile(quantile)).as_secs_f64() * 1_000.0
}
