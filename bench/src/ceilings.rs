//! What the clients alone can do: the same records without a database.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::backlog::{payload, product};

/// Longest wait for the last acknowledgement or record.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two questions for a leader.
const LEADER_PAUSE: Duration = Duration::from_millis(50);

/// Acknowledgements: a record that is refused is told, and missing where its reader counts.
pub(crate) struct Acks;

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        if let Err((error, _)) = result {
            eprintln!("ceiling.produce: {error}");
        }
    }
}

/// A bare producer with the relay's settings.
pub(crate) fn producer(brokers: &str) -> Result<ThreadedProducer<Acks>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .set("compression.type", "none")
        .set("queue.buffering.max.messages", "100000")
        .create_with_context(Acks)?)
}

/// Hands a record over as soon as there is room for it.
pub(crate) fn send(producer: &ThreadedProducer<Acks>, mut record: BaseRecord<'_, str, [u8], usize>) {
    while let Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) = producer.send(record)
    {
        record = back;
        // Its own thread polls; this one only makes room.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Waits for every acknowledgement.
pub(crate) fn flush(producer: &ThreadedProducer<Acks>) -> Result<()> {
    Ok(producer.flush(PATIENCE)?)
}

/// Events per second of a bare producer with the relay's settings and headers.
pub(crate) fn produce(brokers: &str, topic: &str, events: u64) -> Result<f64> {
    let producer = producer(brokers)?;
    let begun = Instant::now();
    for number in 0..events {
        let key = product(number).to_string();
        let value = payload(number);
        let record = BaseRecord::with_opaque_to(topic, 1).key(key.as_str()).payload(&value[..]);
        send(&producer, record.headers(headers(number)));
    }
    flush(&producer)?;
    Ok(rate(events, begun.elapsed()))
}

fn headers(number: u64) -> OwnedHeaders {
    let id = uuid::Uuid::now_v7().to_string();
    let sequence = number.to_string();
    let pairs: [(&str, &str); 7] = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_type", "ProductViewed"),
        ("ce_source", "urn:outbox:7301234567890123456:1"),
        ("ce_time", "2026-11-23T12:00:00.123456Z"),
        ("ce_sequence", &sequence),
        ("content-type", "application/json"),
    ];
    pairs.iter().fold(OwnedHeaders::new_with_capacity(pairs.len()), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value.as_bytes()) })
    })
}

/// Events per second of a bare consumer that reads headers, parses the payload, and drops it.
pub(crate) fn consume(brokers: &str, topics: &[String], partitions: i32, events: u64) -> Result<f64> {
    let topic = topics.first().context("no topic")?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-ceiling"))
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "20")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    let mut begun = Instant::now();
    let mut seen = 0;
    let mut units = 0;
    while seen < events {
        let message = consumer.poll(PATIENCE).context("the topic ended before its last record")??;
        if seen == 0 {
            begun = Instant::now();
        }
        units += parse(&message)?;
        seen += 1;
    }
    anyhow::ensure!(units > 0, "nothing was parsed");
    Ok(rate(events, begun.elapsed()))
}

fn parse(message: &BorrowedMessage<'_>) -> Result<i64> {
    let headers = message.headers().context("no headers")?;
    let name = headers.iter().find(|header| header.key == "ce_type").and_then(|header| header.value);
    let name = std::str::from_utf8(name.context("no ce_type")?)?;
    Ok(commerce_events::decode(name, message.key(), message.payload())?.aggregate_id())
}

/// Reads how many records a topic holds.
pub(crate) struct Ends {
    client: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Ends {
    /// Connects lazily.
    pub(crate) fn new(brokers: &str, topic: &str, partitions: i32) -> Result<Self> {
        let client = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
        Ok(Self { client, topic: topic.to_owned(), partitions })
    }

    /// Records over all partitions.
    pub(crate) fn total(&self) -> Result<u64> {
        let mut total = 0;
        for partition in 0..self.partitions {
            let (low, high) = watermarks(&self.client, &self.topic, partition)?;
            total += u64::try_from(high - low)?;
        }
        Ok(total)
    }
}

/// Log start and end; of a topic that was just created, as soon as it has leaders.
pub(crate) fn watermarks(client: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64)> {
    let begun = Instant::now();
    loop {
        match client.fetch_watermarks(topic, partition, PATIENCE) {
            Err(error) if has_no_leader(&error) && begun.elapsed() < PATIENCE => {
                std::thread::park_timeout(LEADER_PAUSE);
            }
            answer => return Ok(answer?),
        }
    }
}

fn has_no_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

/// Events per second.
pub(crate) fn rate(events: u64, elapsed: Duration) -> f64 {
    f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / elapsed.as_secs_f64()
}
