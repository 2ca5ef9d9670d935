//! Reading a topic from its start to its end.

use std::collections::BTreeMap;

use kafka_client::admin::{Admin, TopicSpec, Watermarks};
use kafka_client::{
    AwaitedProducer, ClientSettings, OutgoingRecord, ProducerSettings, ReadError, StoredRecord, TopicReader,
};
use testkit::TestTopics;

const PARTITIONS: i32 = 3;
/// Enough that some have no leader yet when they are asked about.
const LEADERLESS_PARTITIONS: i32 = 60;
const LEADERLESS_TRIES: usize = 5;

struct Topic {
    client: ClientSettings,
    admin: Admin,
    producer: AwaitedProducer,
    name: String,
}

impl Topic {
    async fn create() -> anyhow::Result<Self> {
        Self::create_with(PARTITIONS).await
    }

    async fn create_with(partitions: i32) -> anyhow::Result<Self> {
        let topics = TestTopics::new()?;
        let client = ClientSettings::new(topics.brokers(), "test");
        let admin = Admin::new(&client)?;
        let name = topics.name("read");
        let spec = TopicSpec { name: name.clone(), partitions, replication: 1, config: BTreeMap::new() };
        admin.create_topics(&[spec]).await?;
        let producer = AwaitedProducer::new(&ProducerSettings::new(client.clone()))?;
        Ok(Self { client, admin, producer, name })
    }

    async fn send(&self, numbers: std::ops::Range<u32>) -> anyhow::Result<()> {
        let texts: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let headers: [(&str, &[u8]); 2] = [("kind", b"first"), ("kind", b"last")];
        let records: Vec<OutgoingRecord<'_>> = texts
            .iter()
            .map(|text| OutgoingRecord {
                topic: &self.name,
                key: Some(text.as_bytes()),
                payload: (text != "0").then_some(text.as_bytes()),
                headers: &headers,
                partition: None,
                timestamp: Some(1_000),
            })
            .collect();
        Ok(self.producer.send_all(&records).await?)
    }

    async fn open(&self) -> anyhow::Result<TopicReader> {
        let (client, name) = (self.client.clone(), self.name.clone());
        Ok(tokio::task::spawn_blocking(move || TopicReader::open(&client, &name)).await??)
    }
}

async fn read_all(mut reader: TopicReader) -> anyhow::Result<Vec<StoredRecord>> {
    tokio::task::spawn_blocking(move || {
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    })
    .await?
}

#[tokio::test]
async fn a_topic_that_was_created_a_moment_ago_is_opened() -> anyhow::Result<()> {
    // Its partitions have no leader at first; how long, the brokers decide.
    for _ in 0..LEADERLESS_TRIES {
        let topic = Topic::create_with(LEADERLESS_PARTITIONS).await?;
        let reader = topic.open().await?;
        assert_eq!(reader.ranges().len(), usize::try_from(LEADERLESS_PARTITIONS)?);
        topic.admin.delete_topics(&[&topic.name]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_record_up_to_the_end_at_opening_is_read_once_in_offset_order() -> anyhow::Result<()> {
    let topic = Topic::create().await?;
    topic.send(0..500).await?;
    let reader = topic.open().await?;
    let ends: i64 = reader.ranges().values().map(|range| range.high).sum();
    assert_eq!(ends, 500);
    // Beyond the end at opening: not read.
    topic.send(500..600).await?;
    let records = read_all(reader).await?;
    let mut next = BTreeMap::from_iter((0..PARTITIONS).map(|partition| (partition, 0)));
    for record in &records {
        let expected = next.get_mut(&record.partition).unwrap();
        assert_eq!(record.offset, *expected);
        *expected += 1;
    }
    let mut keys: Vec<u32> = records
        .iter()
        .map(|record| String::from_utf8_lossy(record.key.as_deref().unwrap()).parse().unwrap())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..500).collect::<Vec<_>>());
    topic.admin.delete_topics(&[&topic.name]).await?;
    Ok(())
}

#[tokio::test]
async fn a_record_is_read_as_it_was_written() -> anyhow::Result<()> {
    let topic = Topic::create().await?;
    topic.send(0..2).await?;
    let mut records = read_all(topic.open().await?).await?;
    records.sort_by(|left, right| left.key.cmp(&right.key));
    let [tombstone, record] = records.as_slice() else { anyhow::bail!("two records were sent: {records:?}") };
    assert_eq!((tombstone.key.as_deref(), tombstone.value.as_deref()), (Some(&b"0"[..]), None));
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"1"[..]), Some(&b"1"[..])));
    assert_eq!((record.timestamp, record.headers.len()), (Some(1_000), 2));
    assert_eq!((record.header("kind"), record.header("none")), (Some(&b"last"[..]), None));
    topic.admin.delete_topics(&[&topic.name]).await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_topic_ends_at_once_and_a_missing_one_is_named() -> anyhow::Result<()> {
    let topic = Topic::create().await?;
    let reader = topic.open().await?;
    assert_eq!(reader.ranges().get(&0), Some(&Watermarks { low: 0, high: 0 }));
    assert_eq!(read_all(reader).await?, []);
    topic.admin.delete_topics(&[&topic.name]).await?;
    let missing = Topic { name: format!("{}-missing", topic.name), ..topic };
    let error = missing.open().await.unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(ReadError::NoTopic(name)) if *name == missing.name),
        "{error}"
    );
    Ok(())
}
