//! A topic, a database, a projection that writes down every effect, and a streamer to be started and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use inbox::streamer;
use inbox::{
    ConsumerSettings, Decision, FloodLimits, OrderingMode, Projection, RecordView, Refusal, StopReason,
    StreamerStatus,
};
use kafka_client::admin::{Admin, TopicSpec};
use kafka_client::{AwaitedProducer, ClientSettings, OutgoingRecord, ProducerSettings};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use testkit::{TestDatabase, TestTopics, eventually, watched};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One row for each effect: an event that counts twice has two rows. Names of a few kinds are refused.
const EFFECTS: &str = "create table effect (
    name text not null constraint effect_allowed check (name not like 'forbidden%'),
    topic text not null,
    partition integer not null,
    place bigint generated always as identity)";

/// A record in the making.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
}

impl Record {
    /// An event that is known by its sequence; its value is `name`.
    pub(crate) fn event(partition: i32, sequence: u64, name: &str) -> Self {
        Self::plain(partition, name)
            .with("ce_type", b"Counted")
            .with("ce_source", b"urn:outbox:test")
            .with("ce_sequence", sequence.to_string().as_bytes())
    }

    /// No headers at all.
    pub(crate) fn plain(partition: i32, name: &str) -> Self {
        Self { partition, key: b"key".to_vec(), value: name.as_bytes().to_vec(), headers: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.push((name, value.to_vec()));
        self
    }
}

/// Events `range` of one partition, named by their sequence.
pub(crate) fn events(partition: i32, range: std::ops::Range<u64>) -> Vec<Record> {
    range.map(|sequence| Record::event(partition, sequence, &format!("e{sequence}"))).collect()
}

/// Writes each event down. Values beginning with `bad` are refused, `panic` panics in decoding, `explode` in applying,
/// `overflow` makes a number too large; type `Other` is not used, type `Foreign` not known.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) committed: AtomicU64,
    /// While set, every application waits for ever.
    pub(crate) is_frozen: AtomicBool,
    pub(crate) applications: AtomicU64,
    /// While set, `bad` values are good: the release that mends what made dead letters of them.
    pub(crate) is_mended: AtomicBool,
    pub(crate) is_strict: bool,
    /// While set, effects are written in a transaction that the projection begins and commits.
    pub(crate) has_own_transaction: AtomicBool,
}

impl Projection for Effects {
    type Event = String;

    fn ordering(&self) -> OrderingMode {
        if self.is_strict { OrderingMode::Strict } else { OrderingMode::Commutative }
    }

    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<String>, Refusal> {
        let value = std::str::from_utf8(record.value.unwrap_or_default())
            .map_err(|error| Refusal { reason: "malformed", error: error.to_string() })?;
        if record.event_type == "Other" {
            return Ok(Decision::Skip);
        }
        if record.event_type == "Foreign" {
            return Ok(Decision::Unknown);
        }
        if value.starts_with("bad") && !self.is_mended.load(Ordering::SeqCst) {
            return Err(Refusal { reason: "malformed", error: format!("value '{value}' is bad\0") });
        }
        assert!(!value.starts_with("panic"), "cannot decode {value}");
        Ok(Decision::Apply(value.to_owned()))
    }

    async fn apply(
        &self,
        tx: &mut PgConnection,
        topic: &str,
        partition: i32,
        events: &[String],
    ) -> Result<(), sqlx::Error> {
        self.applications.fetch_add(1, Ordering::SeqCst);
        let insert =
            sqlx::query("insert into effect (name, topic, partition) select unnest($1::text[]), $2, $3")
                .bind(events)
                .bind(topic)
                .bind(partition);
        if self.has_own_transaction.load(Ordering::SeqCst) {
            let mut own = tx.begin().await?;
            insert.execute(&mut *own).await?;
            own.commit().await?;
        } else {
            insert.execute(&mut *tx).await?;
        }
        if events.iter().any(|name| name.starts_with("overflow")) {
            sqlx::query("select 2147483647 + length($1)").bind("x").execute(&mut *tx).await?;
        }
        assert!(!events.iter().any(|name| name.starts_with("explode")), "apply exploded");
        if self.is_frozen.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn committed(&self, events: &[String]) {
        self.committed.fetch_add(u64::try_from(events.len()).unwrap(), Ordering::SeqCst);
    }
}

pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) topics: TestTopics,
    pub(crate) topic: String,
    pub(crate) admin: Admin,
    producer: AwaitedProducer,
}

/// A streamer in a task of its own.
pub(crate) struct Running {
    pub(crate) status: Arc<StreamerStatus>,
    pub(crate) effects: Arc<Effects>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), inbox::StreamerError>>,
}

impl Running {
    /// Shuts it down in order.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.task.await??)
    }

    /// Waits until a partition is stopped; answers why.
    pub(crate) async fn stop_reason(&self) -> Result<StopReason> {
        eventually("a partition is stopped", async || {
            Ok(self.status.partitions().into_iter().find_map(|partition| partition.stopped))
        })
        .await
    }

    /// Drops it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Fixture {
    pub(crate) async fn new(partitions: i32) -> Result<Self> {
        let database = TestDatabase::create(&[inbox::migrations()]).await?;
        sqlx::query(EFFECTS).execute(&mut database.connect().await?).await?;
        let topics = TestTopics::new()?;
        let client = ClientSettings::new(topics.brokers(), "test");
        let admin = Admin::new(&client)?;
        let producer = AwaitedProducer::new(&ProducerSettings::new(client))?;
        let fixture = Self { topic: topics.name("events"), database, topics, admin, producer };
        fixture.create_topic("events", partitions).await?;
        Ok(fixture)
    }

    pub(crate) async fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, &[]).await
    }

    pub(crate) async fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<()> {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let spec = TopicSpec { name: self.topics.name(name), partitions, replication: 1, config };
        Ok(self.admin.create_topics(&[spec]).await?)
    }

    /// Records of a topic, in all its partitions.
    pub(crate) async fn record_count(&self, topic: &str) -> Result<i64> {
        Ok(self.admin.end_offsets(topic).await?.into_values().sum())
    }

    pub(crate) fn group(&self) -> String {
        self.topics.name("group")
    }

    pub(crate) fn client(&self) -> ClientSettings {
        ClientSettings::new(self.topics.brokers(), "test")
    }

    /// A short session, so that a dead member does not hold up its group for long.
    pub(crate) fn settings(&self) -> ConsumerSettings {
        let mut kafka =
            kafka_client::ConsumerSettings::new(self.client(), self.group(), vec![self.topic.clone()]);
        kafka.session_timeout = Duration::from_secs(6);
        ConsumerSettings::new(kafka, self.topics.prefix())
    }

    /// Without the flood guard, for tests of many dead letters.
    pub(crate) fn unguarded(&self) -> ConsumerSettings {
        let mut settings = self.settings();
        settings.flood = FloodLimits { in_a_row_max: 0, window_letters_max: 0, ..FloodLimits::default() };
        settings
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(self.settings(), self.database.options())
    }

    pub(crate) fn start_with(&self, settings: ConsumerSettings, options: PgConnectOptions) -> Running {
        self.start_effects(Effects::default(), settings, options)
    }

    /// A streamer whose projection is strict about the order of keys.
    pub(crate) fn start_strict(&self, settings: ConsumerSettings) -> Running {
        let effects = Effects { is_strict: true, ..Effects::default() };
        self.start_effects(effects, settings, self.database.options())
    }

    fn start_effects(
        &self,
        effects: Effects,
        settings: ConsumerSettings,
        options: PgConnectOptions,
    ) -> Running {
        let (stop, status, effects) = (CancellationToken::new(), Arc::default(), Arc::new(effects));
        let running =
            streamer::run(settings, options, Arc::clone(&effects), stop.clone(), Arc::clone(&status));
        Running { status, effects, stop, task: tokio::spawn(running) }
    }

    pub(crate) async fn produce(&self, records: &[Record]) -> Result<()> {
        self.produce_to(&self.topic, records).await
    }

    /// By a producer of its own, which knows partitions that were added a moment ago.
    pub(crate) async fn produce_afresh(&self, records: &[Record]) -> Result<()> {
        let producer = AwaitedProducer::new(&ProducerSettings::new(self.client()))?;
        send(&producer, &self.topic, records).await
    }

    pub(crate) async fn produce_to(&self, topic: &str, records: &[Record]) -> Result<()> {
        send(&self.producer, topic, records).await
    }

    /// Waits until the stored offsets of the topic sum up to `offset`.
    pub(crate) async fn passed(&self, offset: i64) -> Result<()> {
        let mut connection = self.database.connect().await?;
        let passed = "select coalesce(sum(next_offset), 0)::bigint from inbox.progress where topic = $1";
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let seen: i64 = sqlx::query_scalar(passed).bind(&self.topic).fetch_one(&mut connection).await?;
            if seen >= offset {
                return Ok(());
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "offsets came to {seen}, not to {offset}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Names of all effects in the order in which they were written.
    pub(crate) async fn effects(&self) -> Result<Vec<String>> {
        let mut connection = self.database.connect().await?;
        Ok(sqlx::query_scalar("select name from effect order by place").fetch_all(&mut connection).await?)
    }

    /// Reasons of all dead letters by offset.
    pub(crate) async fn reasons(&self) -> Result<Vec<(i64, String)>> {
        let mut connection = self.database.connect().await?;
        let letters = r#"select "offset", reason from inbox.dead_letter order by partition, "offset""#;
        Ok(sqlx::query_as(letters).fetch_all(&mut connection).await?)
    }

    /// Sums of the topic: handled, duplicates, dead letters, skipped.
    pub(crate) async fn sums(&self) -> Result<[i64; 4]> {
        let mut connection = self.database.connect().await?;
        let progress = inbox::progress::list(&mut connection, Some(&self.group())).await?;
        let mut sums = [0; 4];
        for row in &progress {
            for (sum, value) in
                sums.iter_mut().zip([row.handled, row.duplicates, row.dead_lettered, row.skipped])
            {
                *sum += value;
            }
        }
        Ok(sums)
    }

    /// A case of a topic with so many partitions, during all of which promise P8 holds.
    pub(crate) async fn balanced(partitions: i32, case: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let fixture = Self::new(partitions).await?;
        watched(async || fixture.check_balance().await, case(&fixture)).await?;
        fixture.remove().await
    }

    /// Promise P8 in one snapshot.
    pub(crate) async fn check_balance(&self) -> Result<()> {
        let mut connection = self.database.connect().await?;
        let mut tx = connection.begin_with("begin isolation level repeatable read").await?;
        let balance = inbox::progress::check_balance(&mut tx).await?;
        anyhow::ensure!(balance.is_exact(), "promise P8 is broken in a snapshot: {balance:?}");
        let effects: i64 = sqlx::query_scalar("select count(*) from effect").fetch_one(&mut *tx).await?;
        let handled: i64 = balance.groups.iter().map(|group| group.handled + group.released).sum();
        anyhow::ensure!(
            effects == handled,
            "promise P8 is broken in a snapshot: {effects} effects, {handled} handled"
        );
        Ok(())
    }

    pub(crate) async fn remove(self) -> Result<()> {
        self.check_balance().await?;
        let topics = self.admin.list_topics().await?;
        let own: Vec<&str> =
            topics.keys().map(String::as_str).filter(|name| name.starts_with(self.topics.prefix())).collect();
        self.admin.delete_topics(&own).await?;
        self.database.drop_database().await
    }
}

async fn send(producer: &AwaitedProducer, topic: &str, records: &[Record]) -> Result<()> {
    let headers: Vec<Vec<(&str, &[u8])>> = records
        .iter()
        .map(|record| record.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect())
        .collect();
    let outgoing: Vec<OutgoingRecord<'_>> = records
        .iter()
        .zip(&headers)
        .map(|(record, headers)| OutgoingRecord {
            topic,
            key: Some(&record.key),
            payload: Some(&record.value),
            headers,
            partition: Some(record.partition),
            timestamp: Some(1_700_000_000_000),
        })
        .collect();
    Ok(producer.send_all(&outgoing).await?)
}

/// Names of events `range`.
pub(crate) fn names(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|sequence| format!("e{sequence}")).collect()
}

/// Waits until the streamer has `count` partitions.
pub(crate) async fn has_partitions(running: &Running, count: usize) -> Result<()> {
    eventually("partitions are assigned", async || {
        Ok((running.status.partitions().len() == count).then_some(()))
    })
    .await
    .with_context(|| format!("{count} partitions"))
}
