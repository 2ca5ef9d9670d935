//! A database with the outbox, a topic, relays, and what is in the topic.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kafka_client::{ClientSettings, ProducerSettings};
use outbox::{AppendLimits, Backlog, NewEvent, Nudge, RelayError, RelaySettings, RelayStatus};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use testkit::{TestDatabase, TestTopics, eventually};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    topics: TestTopics,
    pub(crate) topic: String,
}

/// A record as found in the topic.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) payload: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Found {
    pub(crate) fn header(&self, name: &str) -> Result<&str> {
        self.headers.get(name).map(String::as_str).with_context(|| format!("no header {name}"))
    }

    pub(crate) fn sequence(&self) -> Result<i64> {
        Ok(self.header("ce_sequence")?.parse()?)
    }
}

impl Fixture {
    pub(crate) async fn new() -> Result<Self> {
        let database = TestDatabase::create(&[outbox::migrations()]).await?;
        let topics = TestTopics::new()?;
        let topic = topics.name("events");
        let fixture = Self { database, topics, topic };
        fixture.create_topic().await?;
        Ok(fixture)
    }

    /// As [`Self::new`], with a topic that takes records of up to about 2,000 bytes only.
    pub(crate) async fn with_small_records() -> Result<Self> {
        let fixture = Self::new().await?;
        fixture.set_topic_config("max.message.bytes", "2000").await?;
        Ok(fixture)
    }

    pub(crate) async fn create_topic(&self) -> Result<()> {
        let new = NewTopic::new(&self.topic, PARTITIONS, TopicReplication::Fixed(1));
        let admin: AdminClient<DefaultClientContext> = client(self.brokers()).create()?;
        for result in admin.create_topics([&new], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
        }
        Ok(())
    }

    pub(crate) fn brokers(&self) -> &str {
        self.topics.brokers()
    }

    pub(crate) async fn set_topic_config(&self, name: &str, value: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = client(self.brokers()).create()?;
        let config = AlterConfig::new(ResourceSpecifier::Topic(&self.topic)).set(name, value);
        for result in admin.alter_configs([&config], &AdminOptions::new()).await? {
            result.map_err(|(_, code)| anyhow::anyhow!("config: {code}"))?;
        }
        Ok(())
    }

    pub(crate) fn settings(&self, owner: &str) -> RelaySettings {
        RelaySettings::new(owner, ProducerSettings::new(ClientSettings::new(self.brokers(), owner)))
    }

    /// A relay with default settings.
    pub(crate) fn relay(&self, owner: &str) -> RunningRelay {
        self.relay_with(self.settings(owner))
    }

    pub(crate) fn relay_with(&self, settings: RelaySettings) -> RunningRelay {
        RunningRelay::start(settings, self.database.options(), None)
    }

    pub(crate) fn event(&self, key: &str, payload: &str) -> NewEvent {
        NewEvent {
            event_id: Uuid::now_v7(),
            event_type: Cow::Borrowed("Happened"),
            aggregate_type: Cow::Borrowed("thing"),
            aggregate_id: key.to_owned(),
            aggregate_version: Some(1),
            topic: self.topic.clone(),
            partition_key: key.to_owned(),
            payload: Some(payload.as_bytes().to_vec()),
            headers: Vec::new(),
            traceparent: None,
            occurred_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    /// An event that [`Self::with_small_records`]' topic refuses.
    pub(crate) fn large_event(&self, key: &str, payload: &str) -> NewEvent {
        let headers = vec![("fill".to_owned(), vec![b'x'; 5_000])];
        NewEvent { headers, ..self.event(key, payload) }
    }

    /// `count` events with keys `0..keys` and their number as payload.
    pub(crate) fn events(&self, count: usize, keys: usize) -> Vec<NewEvent> {
        (0..count).map(|number| self.event(&(number % keys).to_string(), &number.to_string())).collect()
    }

    /// Appends in one transaction of its own.
    pub(crate) async fn append(&self, connection: &mut PgConnection, events: &[NewEvent]) -> Result<()> {
        let mut tx = connection.begin().await?;
        outbox::append(&mut tx, events, &AppendLimits::default()).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn backlog(&self, connection: &mut PgConnection) -> Result<Backlog> {
        Ok(outbox::backlog(connection).await?)
    }

    /// Waits until the stored positions have passed everything.
    pub(crate) async fn settled(&self) -> Result<()> {
        let mut connection = self.database.connect().await?;
        eventually("every event is published", async || {
            Ok((outbox::backlog(&mut connection).await?.rows == 0).then_some(()))
        })
        .await
    }

    /// Everything that is in the topic now, partition after partition, in order.
    pub(crate) async fn found(&self) -> Result<Vec<Found>> {
        let (brokers, topic) = (self.brokers().to_owned(), self.topic.clone());
        tokio::task::spawn_blocking(move || read_topic(&brokers, &topic)).await?
    }

    /// Waits until at least `count` records are in the topic.
    pub(crate) async fn found_at_least(&self, count: usize) -> Result<Vec<Found>> {
        eventually("the records are in the topic", async || {
            let found = self.found().await?;
            Ok((found.len() >= count).then_some(found))
        })
        .await
    }

    pub(crate) async fn remove(self) -> Result<()> {
        self.database.drop_database().await
    }
}

pub(crate) struct RunningRelay {
    pub(crate) status: Arc<RelayStatus>,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<(), RelayError>>>,
}

impl RunningRelay {
    pub(crate) fn start(settings: RelaySettings, options: PgConnectOptions, nudge: Option<Nudge>) -> Self {
        let status = Arc::new(RelayStatus::default());
        let stop = CancellationToken::new();
        let run = outbox::relay::run(settings, options, nudge, stop.clone(), Arc::clone(&status));
        Self { status, stop, task: Some(tokio::spawn(run)) }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        match self.task.take() {
            Some(task) => {
                Ok(tokio::time::timeout(PATIENCE, task).await.context("the relay does not end")???)
            }
            None => bail!("it has ended already"),
        }
    }

    /// Ends it as a crash does: nothing more is written.
    pub(crate) async fn kill(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // The answer only says that it was aborted.
            let _ = task.await;
        }
    }
}

impl Drop for RunningRelay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "test");
    config
}

fn read_topic(brokers: &str, topic: &str) -> Result<Vec<Found>> {
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", "test-reader")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()?;
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let (_, end) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        if end == 0 {
            continue;
        }
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        consumer.assign(&assignment)?;
        loop {
            let message = consumer.poll(PATIENCE).context("the partition ended early")??;
            found.push(read_message(&message)?);
            if message.offset() + 1 >= end {
                break;
            }
        }
    }
    Ok(found)
}

fn read_message(message: &impl Message) -> Result<Found> {
    let mut headers = BTreeMap::new();
    if let Some(list) = message.headers() {
        for header in list.iter() {
            let value = std::str::from_utf8(header.value.unwrap_or_default())?;
            anyhow::ensure!(
                headers.insert(header.key.to_owned(), value.to_owned()).is_none(),
                "{} twice",
                header.key
            );
        }
    }
    Ok(Found {
        key: std::str::from_utf8(message.key().context("no key")?)?.to_owned(),
        payload: message.payload().map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        headers,
    })
}

/// The first occurrence of each event, in the order found.
pub(crate) fn without_resends(found: &[Found]) -> Result<Vec<&Found>> {
    let mut seen = std::collections::HashSet::new();
    let mut first = Vec::new();
    for record in found {
        if seen.insert(record.header("ce_id")?) {
            first.push(record);
        }
    }
    Ok(first)
}

/// Checks that payloads that are numbers rise within each key.
pub(crate) fn ensure_ordered(records: &[&Found]) -> Result<()> {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for record in records {
        let number: i64 = record.payload.as_deref().context("no payload")?.parse()?;
        if let Some(before) = last.insert(&record.key, number) {
            anyhow::ensure!(before < number, "key {}: {before} before {number}", record.key);
        }
    }
    Ok(())
}
