//! Measures the outbox alone: appending in bulk, draining by the relay, a bare producer with the same records, idling.
//!
//! `COMMERCE_DATABASE_URL` and `COMMERCE_KAFKA_BROKERS` say where. Arguments: the number of events, and `bare` to measure the
//! producer alone too. Creates a database and a topic of its own and drops the database at the end.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kafka_client::{
    ClientSettings, DeliveryError, DeliverySink, OutgoingRecord, Producer, ProducerSettings, SendError,
};
use outbox::{AppendLimits, NewEvent, RelaySettings, RelayStatus, TickerSettings};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use sqlx::Connection;
use testkit::{TestDatabase, TestTopics, eventually_within};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAYLOAD_BYTES: usize = 350;
const CHUNK: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let events = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let database = TestDatabase::create(&[outbox::migrations()]).await?;
    let topics = TestTopics::new()?;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", topics.brokers()).create()?;
    let names = ["relayed", "bare"].map(|name| topics.name(name));
    let new = names.each_ref().map(|name| NewTopic::new(name, 6, TopicReplication::Fixed(1)));
    admin.create_topics(&new, &AdminOptions::new()).await?;

    let filled = fill(&database, &names[0], events).await?;
    report("append", events, filled)?;
    let producer = ProducerSettings::new(ClientSettings::new(topics.brokers(), "drain"));
    if std::env::args().nth(2).as_deref() == Some("bare") {
        let (settings, topic) = (producer.clone(), names[1].clone());
        report(
            "bare producer",
            events,
            tokio::task::spawn_blocking(move || bare(&settings, &topic, events)).await??,
        )?;
    }
    let cpu = cpu_seconds()?;
    let stop = CancellationToken::new();
    let status = Arc::new(RelayStatus::default());
    let settings = RelaySettings::new("drain", producer);
    let begun = Instant::now();
    let run = outbox::relay::run(settings, database.options(), None, stop.clone(), Arc::clone(&status));
    let relay = tokio::spawn(run);
    let all = u64::try_from(events)?;
    eventually_within(PATIENCE, "drained", async || Ok((status.published() >= all).then_some(()))).await?;
    report("relay", events, begun.elapsed())?;
    let per_event = (cpu_seconds()? - cpu) * 1e6 / f64::from(u32::try_from(events)?);
    print(&format!(
        "relay process: {per_event:.1} µs CPU an event, {} MB resident at most\n",
        resident_max()?
    ))?;
    idle(&database).await?;
    stop.cancel();
    relay.await??;
    database.drop_database().await
}

async fn fill(database: &TestDatabase, topic: &str, events: usize) -> Result<Duration> {
    let stop = CancellationToken::new();
    let ticker =
        tokio::spawn(outbox::ticker::run(TickerSettings::default(), database.options(), stop.clone()));
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..2 {
        let mut connection = database.connect().await?;
        let topic = topic.to_owned();
        writers.spawn(async move {
            for first in (writer * CHUNK..events).step_by(2 * CHUNK) {
                let chunk: Vec<NewEvent> =
                    (first..(first + CHUNK).min(events)).map(|number| event(&topic, number)).collect();
                let mut tx = connection.begin().await?;
                outbox::append(&mut tx, &chunk, &AppendLimits::default()).await?;
                tx.commit().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    let elapsed = begun.elapsed();
    stop.cancel();
    ticker.await?;
    Ok(elapsed)
}

fn event(topic: &str, number: usize) -> NewEvent {
    NewEvent {
        event_id: Uuid::now_v7(),
        event_type: "ProductViewed".into(),
        aggregate_type: "product".into(),
        aggregate_id: key(number),
        aggregate_version: None,
        topic: topic.to_owned(),
        partition_key: key(number),
        payload: Some(vec![b'x'; PAYLOAD_BYTES]),
        headers: Vec::new(),
        traceparent: None,
        occurred_at: chrono::DateTime::UNIX_EPOCH,
    }
}

fn key(number: usize) -> String {
    (number.wrapping_mul(2_654_435_761) % 10_000).to_string()
}

struct Ignore;

impl DeliverySink for Ignore {
    fn delivered(&self, _: usize, _: Result<(), DeliveryError>) {}
}

fn bare(settings: &ProducerSettings, topic: &str, events: usize) -> Result<Duration> {
    let producer = Producer::new(settings, Ignore)?;
    let begun = Instant::now();
    for number in 0..events {
        let (id, sequence, key) = (Uuid::now_v7().to_string(), number.to_string(), key(number));
        let payload = vec![b'x'; PAYLOAD_BYTES];
        let headers: [(&str, &[u8]); 7] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", id.as_bytes()),
            ("ce_type", b"ProductViewed"),
            ("ce_source", b"urn:outbox:7301234567890123456:1"),
            ("ce_time", b"2026-11-23T12:00:00.123456Z"),
            ("ce_sequence", sequence.as_bytes()),
            ("content-type", b"application/json"),
        ];
        let record = OutgoingRecord {
            topic,
            key: Some(key.as_bytes()),
            payload: Some(&payload),
            headers: &headers,
            partition: None,
            timestamp: None,
        };
        while let Err(error) = producer.try_send(&record, 0) {
            anyhow::ensure!(error == SendError::QueueFull, "{error}");
            std::thread::yield_now();
        }
    }
    anyhow::ensure!(producer.flush(PATIENCE), "not flushed");
    Ok(begun.elapsed())
}

/// CPU of this process while nothing happens but a tick each second.
async fn idle(database: &TestDatabase) -> Result<()> {
    let stop = CancellationToken::new();
    let ticker =
        tokio::spawn(outbox::ticker::run(TickerSettings::default(), database.options(), stop.clone()));
    let (cpu, begun) = (cpu_seconds()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (cpu_seconds()? - cpu) / begun.elapsed().as_secs_f64();
    print(&format!("idle: {:.2} % of a core\n", share * 100.0))?;
    stop.cancel();
    Ok(ticker.await?)
}

fn report(what: &str, events: usize, elapsed: Duration) -> Result<()> {
    let seconds = elapsed.as_secs_f64();
    let count = f64::from(u32::try_from(events)?);
    print(&format!("{what}: {:.0} events/s, {:.1} µs an event\n", count / seconds, seconds / count * 1e6))
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("stat")?.1;
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

fn resident_max() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1_024)
}
