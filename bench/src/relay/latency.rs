//! commit→acknowledged at a steady rate, alone and beside a transaction that stays open.
//!
//! The time is taken where a consumer has the record: a record is acknowledged before it can be read, so the figures are upper
//! bounds that include the broker's fetch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use outbox::AppendLimits;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use sqlx::Connection;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::backlog::view;
use crate::ceilings::watermarks;
use crate::drain::{PARTITIONS, TOPIC};
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// Connections that share the rate.
const WRITERS: u32 = 8;
/// Time at the rate before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);

type Moments = HashMap<Uuid, Instant>;

pub(super) async fn once(rate: u32, seconds: u32, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let role = pipeline.start("relay")?;
    let length = Duration::from_secs(seconds.into());
    measure(&pipeline, rate, WARM_UP).await?;

    let before = role.usage()?.cpu;
    let alone = measure(&pipeline, rate, length).await?;
    note_cpu(figures, &role, before, length)?;
    figures.add("relay.latency_p50", "ms", quantile(&alone, 0.5));
    figures.add("relay.latency_p99", "ms", quantile(&alone, 0.99));

    let mut foreign = pipeline.connect().await?;
    let mut tx = foreign.begin().await?;
    // With an id and a snapshot, so that it holds back everything that an open transaction can hold back.
    sqlx::query("select pg_current_xact_id()").execute(&mut *tx).await?;
    let beside = measure(&pipeline, rate, length).await?;
    tx.rollback().await?;
    figures.add("relay.foreign_tx_p50", "ms", quantile(&beside, 0.5));
    figures.add("relay.foreign_tx_p99", "ms", quantile(&beside, 0.99));
    figures.add(
        "relay.foreign_tx_ratio",
        "of relay.latency_p50",
        quantile(&beside, 0.5) / quantile(&alone, 0.5),
    );
    drop(foreign);
    drop(role);
    pipeline.remove().await
}

/// Microseconds from the return of each commit to the record at a consumer.
async fn measure(pipeline: &Pipeline, rate: u32, length: Duration) -> Result<Histogram<u64>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = watch(pipeline, Arc::clone(&is_over))?;
    let committed = write(pipeline, rate, length).await?;
    is_over.store(true, Ordering::Relaxed);
    let arrived = tokio::task::spawn_blocking(move || watch.join()).await?;
    let arrived = arrived.map_err(|_| anyhow::anyhow!("the consumer has died"))??;
    let mut latencies = Histogram::new(3)?;
    for (event, at) in &committed {
        let seen = arrived.get(event).with_context(|| format!("event {event} did not arrive"))?;
        // A record may arrive before its writer has heard of the commit.
        latencies.record(u64::try_from(seen.saturating_duration_since(*at).as_micros())?)?;
    }
    Ok(latencies)
}

/// One event in each transaction; answers when each commit returned.
async fn write(pipeline: &Pipeline, rate: u32, length: Duration) -> Result<Moments> {
    let mut tasks = JoinSet::new();
    let turns = u64::from(rate) * length.as_secs() / u64::from(WRITERS);
    for writer in 0..WRITERS {
        let mut connection = pipeline.connect().await?;
        let topic = pipeline.topic(TOPIC);
        tasks.spawn(async move {
            let mut moments = Moments::new();
            let begin = Instant::now() + Duration::from_secs(1) / rate * writer;
            let mut pace = tokio::time::interval_at(begin.into(), Duration::from_secs(1) * WRITERS / rate);
            for turn in 0..turns {
                pace.tick().await;
                let event = view(&topic, turn * u64::from(WRITERS) + u64::from(writer));
                let event_id = event.event_id;
                let mut tx = connection.begin().await?;
                outbox::append(&mut tx, &[event], &AppendLimits::default()).await?;
                tx.commit().await?;
                moments.insert(event_id, Instant::now());
            }
            anyhow::Ok(moments)
        });
    }
    let mut all = Moments::new();
    while let Some(moments) = tasks.join_next().await {
        all.extend(moments??);
    }
    Ok(all)
}

/// Notes when each new record arrives, until nothing has come for a while after the end.
fn watch(pipeline: &Pipeline, is_over: Arc<AtomicBool>) -> Result<std::thread::JoinHandle<Result<Moments>>> {
    const QUIET: Duration = Duration::from_millis(500);
    let topic = pipeline.topic(TOPIC);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", pipeline.brokers())
        .set("group.id", format!("{topic}-latency"))
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "1")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let (_, end) = watermarks(&consumer, &topic, partition)?;
        assignment.add_partition_offset(&topic, partition, Offset::Offset(end))?;
    }
    consumer.assign(&assignment)?;
    Ok(std::thread::spawn(move || {
        let mut moments = Moments::new();
        loop {
            match consumer.poll(QUIET) {
                Some(message) => {
                    let at = Instant::now();
                    moments.entry(event_id(&message?)?).or_insert(at);
                }
                None if is_over.load(Ordering::Relaxed) => return Ok(moments),
                None => {}
            }
        }
    }))
}

fn event_id(message: &impl Message) -> Result<Uuid> {
    let headers = message.headers().context("no headers")?;
    let id = headers.iter().find(|header| header.key == "ce_id").and_then(|header| header.value);
    Ok(std::str::from_utf8(id.context("no ce_id")?)?.parse()?)
}

fn note_cpu(figures: &mut Figures, role: &Role, before: Duration, length: Duration) -> Result<()> {
    let used = role.usage()?.cpu.saturating_sub(before);
    figures.add("relay.latency_cpu", "% of a core", used.as_secs_f64() / length.as_secs_f64() * 100.0);
    Ok(())
}

fn quantile(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_micros(latencies.value_at_quantile(quantile)).as_secs_f64() * 1_000.0
}
