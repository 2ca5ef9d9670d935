//! The consumer's promises to its owner.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use kafka_client::admin::{Admin, TopicSpec};
use kafka_client::{
    AwaitedProducer, ClientSettings, Consumer, ConsumerEvent, ConsumerSettings, OutgoingRecord,
    ProducerSettings, RecordBatch, Start,
};
use testkit::{TestTopics, eventually};
use tokio::sync::mpsc::UnboundedReceiver;

/// Turns of the poll thread in which it would have handed a batch over.
const TURNS: u64 = 10;

/// A consumer that has the only partition of a topic.
struct Reading {
    client: ClientSettings,
    topic: String,
    consumer: Consumer,
    events: UnboundedReceiver<ConsumerEvent>,
}

impl Reading {
    async fn start() -> Result<Self> {
        let topics = TestTopics::new()?;
        let client = ClientSettings::new(topics.brokers(), "test");
        let topic = topics.name("consumed");
        let spec = TopicSpec { name: topic.clone(), partitions: 1, replication: 1, config: BTreeMap::new() };
        Admin::new(&client)?.create_topics(&[spec]).await?;
        let settings = ConsumerSettings::new(client.clone(), topics.name("group"), vec![topic.clone()]);
        let (consumer, mut events) = Consumer::start(settings)?;
        loop {
            match events.recv().await.context("the consumer ended")? {
                ConsumerEvent::Assigned { rebalance, partitions } => {
                    let start = |origin| Start { origin, offset: 0, generation: 1 };
                    let starts: Vec<Start> = partitions.into_iter().map(start).collect();
                    let is_whole = starts.len() == 1;
                    consumer.assign(Some(rebalance), starts);
                    if is_whole {
                        return Ok(Self { client, topic, consumer, events });
                    }
                }
                ConsumerEvent::Observed { .. } => {}
                other => bail!("{other:?}"),
            }
        }
    }

    async fn produce(&self, payloads: &[&str]) -> Result<()> {
        let producer = AwaitedProducer::new(&ProducerSettings::new(self.client.clone()))?;
        let records: Vec<OutgoingRecord<'_>> = payloads
            .iter()
            .map(|payload| OutgoingRecord {
                topic: &self.topic,
                key: None,
                payload: Some(payload.as_bytes()),
                headers: &[],
                partition: Some(0),
                timestamp: None,
            })
            .collect();
        Ok(producer.send_all(&records).await?)
    }

    /// Waits until the consumer knows that the log ends at `end` and has had time to hand over what it has.
    async fn has_fetched(&mut self, end: i64) -> Result<()> {
        loop {
            match self.events.recv().await.context("the consumer ended")? {
                ConsumerEvent::Observed { ends, .. } if ends.iter().any(|(_, known)| *known == end) => break,
                ConsumerEvent::Observed { .. } | ConsumerEvent::ReachedEnd { .. } => {}
                other => bail!("{other:?}"),
            }
        }
        let until = self.consumer.ticks() + TURNS;
        eventually("the poll thread had its turns", async || {
            Ok((self.consumer.ticks() >= until).then_some(()))
        })
        .await
    }

    async fn batch(&mut self) -> Result<RecordBatch> {
        loop {
            match self.events.recv().await.context("the consumer ended")? {
                ConsumerEvent::Batch(batch) => return Ok(batch),
                ConsumerEvent::Observed { .. } | ConsumerEvent::ReachedEnd { .. } => {}
                other => bail!("{other:?}"),
            }
        }
    }
}

fn payloads(batch: &RecordBatch) -> Vec<String> {
    let records = (0..batch.len()).filter_map(|index| batch.get(index));
    records.map(|record| String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()).collect()
}

#[tokio::test]
async fn a_batch_grows_until_it_is_wanted_and_none_comes_before() -> Result<()> {
    let mut reading = Reading::start().await?;
    reading.produce(&["a", "b"]).await?;
    // Fails at a batch.
    reading.has_fetched(2).await?;
    reading.produce(&["c"]).await?;
    reading.has_fetched(3).await?;
    reading.consumer.want(1);
    let batch = reading.batch().await?;
    assert_eq!(payloads(&batch), ["a", "b", "c"]);

    reading.consumer.done(batch.origin.clone(), batch.generation);
    reading.produce(&["d"]).await?;
    reading.has_fetched(4).await?;
    reading.consumer.want(1);
    assert_eq!(payloads(&reading.batch().await?), ["d"]);
    Ok(())
}
