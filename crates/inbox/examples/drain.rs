//! Measures how fast a backlog is worked off, and what it costs: `cargo run --release -p inbox --example drain [EVENTS]`.
//!
//! Prints events/s, CPU of this process per event and its most resident memory; then the same for a bare consumer that
//! only looks at each record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use inbox::{ConsumerSettings, Decision, Projection, RecordView, Refusal, StreamerStatus};
use kafka_client::admin::{Admin, TopicSpec};
use kafka_client::{
    AwaitedProducer, ClientSettings, Consumer, ConsumerEvent, OutgoingRecord, ProducerSettings, Start,
    TopicReader,
};
use sqlx::PgConnection;
use testkit::{TestDatabase, TestTopics};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 6;
const PRODUCTS: u64 = 10_000;
const IDLE: Duration = Duration::from_secs(5);

struct Counting;

impl Projection for Counting {
    type Event = i64;

    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<i64>, Refusal> {
        let refuse = |error: String| Refusal { reason: "malformed", error };
        let value: serde_json::Value = serde_json::from_slice(record.value.unwrap_or_default())
            .map_err(|error| refuse(error.to_string()))?;
        value["productId"].as_i64().map(Decision::Apply).ok_or_else(|| refuse("no product".to_owned()))
    }

    async fn apply(&self, tx: &mut PgConnection, _: &str, _: i32, events: &[i64]) -> Result<(), sqlx::Error> {
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        for product in events {
            *counts.entry(*product).or_default() += 1;
        }
        let (products, counts): (Vec<i64>, Vec<i64>) = counts.into_iter().unzip();
        sqlx::query(
            "insert into counted (product, count) select * from unnest($1::bigint[], $2::bigint[])
             on conflict (product) do update set count = counted.count + excluded.count",
        )
        .bind(products)
        .bind(counts)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn committed(&self, _: &[i64]) {}
}

#[tokio::main]
async fn main() -> Result<()> {
    let events: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let database = TestDatabase::create(&[inbox::migrations()]).await?;
    let mut connection = database.connect().await?;
    sqlx::query(
        "create table counted (product bigint primary key, count bigint not null) with (fillfactor = 50)",
    )
    .execute(&mut connection)
    .await?;
    let topics = TestTopics::new()?;
    let client = ClientSettings::new(topics.brokers(), "drain");
    let topic = topics.name("drain");
    let admin = Admin::new(&client)?;
    let spec =
        TopicSpec { name: topic.clone(), partitions: PARTITIONS, replication: 1, config: BTreeMap::new() };
    admin.create_topics(&[spec]).await?;
    produce(&client, &topic, events).await?;
    let kafka =
        kafka_client::ConsumerSettings::new(client.clone(), topics.name("group"), vec![topic.clone()]);
    bare(kafka.clone(), events).await?;
    for _ in 0..2 {
        drain(ConsumerSettings::new(kafka.clone(), topics.prefix()), &database, events).await?;
        for statement in ["truncate inbox.event_handled, inbox.progress", "truncate counted"] {
            sqlx::query(statement).execute(&mut connection).await?;
        }
    }
    admin.delete_topics(&[&topic]).await?;
    drop(connection);
    database.drop_database().await
}

async fn produce(client: &ClientSettings, topic: &str, events: u64) -> Result<()> {
    let producer = AwaitedProducer::new(&ProducerSettings::new(client.clone()))?;
    let filler = "x".repeat(200);
    for begin in (0..events).step_by(20_000) {
        let texts: Vec<(String, String, String, String)> = (begin..events.min(begin + 20_000))
            .map(|number| {
                let product = (number.wrapping_mul(2_654_435_761) >> 7) % PRODUCTS;
                let id = uuid::Uuid::from_u128(u128::from(number)).to_string();
                let value = format!(r#"{{"productId":{product},"userId":{number},"filler":"{filler}"}}"#);
                (product.to_string(), value, number.to_string(), id)
            })
            .collect();
        let headers: Vec<[(&str, &[u8]); 6]> = texts
            .iter()
            .map(|(_, _, sequence, id)| {
                [
                    ("ce_specversion", &b"1.0"[..]),
                    ("ce_id", id.as_bytes()),
                    ("ce_type", b"ProductViewed"),
                    ("ce_source", b"urn:outbox:7412345678901234567:1"),
                    ("ce_time", b"2026-01-02T03:04:05.678901Z"),
                    ("ce_sequence", sequence.as_bytes()),
                ]
            })
            .collect();
        let records: Vec<OutgoingRecord<'_>> = texts
            .iter()
            .zip(&headers)
            .map(|((key, value, ..), headers)| OutgoingRecord {
                topic,
                key: Some(key.as_bytes()),
                payload: Some(value.as_bytes()),
                headers,
                partition: None,
                timestamp: None,
            })
            .collect();
        producer.send_all(&records).await?;
    }
    Ok(())
}

async fn drain(settings: ConsumerSettings, database: &TestDatabase, events: u64) -> Result<()> {
    let (stop, status) = (CancellationToken::new(), Arc::new(StreamerStatus::default()));
    let mut connection = database.connect().await?;
    let (begun, cpu) = (Instant::now(), cpu()?);
    let running = tokio::spawn(inbox::streamer::run(
        settings,
        database.options(),
        Arc::new(Counting),
        stop.clone(),
        Arc::clone(&status),
    ));
    let mut first = None;
    loop {
        let handled: i64 = sqlx::query_scalar("select coalesce(sum(handled), 0)::bigint from inbox.progress")
            .fetch_one(&mut connection)
            .await?;
        let handled = u64::try_from(handled)?;
        if handled > 0 && first.is_none() {
            first = Some((Instant::now(), handled));
        }
        if handled >= events {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (since, before) = first.unwrap_or((begun, 0));
    report("inbox", events - before, since.elapsed(), self::cpu()? - cpu)?;
    let (idle, before) = (Instant::now(), self::cpu()?);
    tokio::time::sleep(IDLE).await;
    let per_mille = (self::cpu()? - before).as_millis() * 1_000 / idle.elapsed().as_millis();
    println!("idle: {per_mille} thousandths of a core");
    stop.cancel();
    running.await??;
    Ok(())
}

async fn bare(settings: kafka_client::ConsumerSettings, events: u64) -> Result<()> {
    let cpu = cpu()?;
    let (consumer, mut receiver) = Consumer::start(kafka_client::ConsumerSettings {
        group: format!("{}-bare", settings.group),
        ..settings
    })?;
    let (mut seen, mut begun) = (0_u64, Instant::now());
    while seen < events {
        match receiver.recv().await {
            Some(ConsumerEvent::Assigned { rebalance, partitions }) => {
                begun = Instant::now();
                let starts =
                    partitions.into_iter().map(|origin| Start { origin, offset: 0, generation: 1 }).collect();
                consumer.assign(Some(rebalance), starts);
            }
            Some(ConsumerEvent::Batch(batch)) => {
                for record in batch.iter() {
                    let value: serde_json::Value = serde_json::from_slice(record.value.unwrap_or_default())?;
                    seen += u64::from(value["productId"].is_i64());
                }
                consumer.done(batch.origin.clone(), batch.generation);
            }
            Some(_) => {}
            None => anyhow::bail!("consumer ended"),
        }
    }
    report("bare consumer", events, begun.elapsed(), self::cpu()? - cpu)?;
    consumer.close(Duration::from_secs(5)).await;
    Ok(())
}

fn report(what: &str, events: u64, time: Duration, cpu: Duration) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS: ?");
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: ?");
    let nanos = u64::try_from(time.as_nanos())?;
    let rate = events * 1_000_000_000 / nanos.max(1);
    println!(
        "{what}: {rate} events/s, {} ns CPU an event; {resident}; {peak}",
        u64::try_from(cpu.as_nanos())? / events
    );
    Ok(())
}

/// User and system time of this process.
fn cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}
