//! Producers: acknowledgements by batch, order, partitions, refusals, full queues.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use kafka_client::admin::{Admin, TopicSpec};
use kafka_client::{
    AwaitedProducer, ClientSettings, DeliveryError, DeliverySink, OutgoingRecord, Producer, ProducerSettings,
    PublishError, Refusal, SendError, StoredRecord, TopicReader, murmur2,
};
use testkit::{TestTopics, eventually};

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing listens on it.
const NOWHERE: &str = "127.0.0.1:1";

/// Outcomes by batch: stored, not stored.
#[derive(Debug, Clone, Default)]
struct Outcomes(Arc<Mutex<BTreeMap<usize, (usize, usize)>>>);

impl Outcomes {
    fn of(&self, batch: usize) -> (usize, usize) {
        self.0.lock().unwrap().get(&batch).copied().unwrap_or_default()
    }
}

impl DeliverySink for Outcomes {
    fn delivered(&self, batch: usize, outcome: Result<(), DeliveryError>) {
        let mut outcomes = self.0.lock().unwrap();
        let counts = outcomes.entry(batch).or_default();
        if outcome.is_ok() { counts.0 += 1 } else { counts.1 += 1 }
    }
}

async fn topic(config: &[(&str, &str)]) -> Result<(ProducerSettings, String)> {
    let topics = TestTopics::new()?;
    let client = ClientSettings::new(topics.brokers(), "test");
    let name = topics.name("produced");
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let spec = TopicSpec { name: name.clone(), partitions: PARTITIONS, replication: 1, config };
    Admin::new(&client)?.create_topics(&[spec]).await?;
    Ok((ProducerSettings::new(client), name))
}

fn record<'a>(topic: &'a str, key: &'a str, payload: &'a [u8]) -> OutgoingRecord<'a> {
    OutgoingRecord {
        topic,
        key: Some(key.as_bytes()),
        payload: Some(payload),
        headers: &[],
        partition: None,
        timestamp: None,
    }
}

async fn read(settings: &ProducerSettings, topic: &str) -> Result<Vec<StoredRecord>> {
    let (client, topic) = (settings.client.clone(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut reader = TopicReader::open(&client, &topic)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    })
    .await?
}

#[tokio::test]
async fn every_record_is_acknowledged_once_under_its_batch_and_stored_in_order() -> Result<()> {
    let (settings, topic) = topic(&[]).await?;
    let outcomes = Outcomes::default();
    let producer = Producer::new(&settings, outcomes.clone())?;
    for number in 0..3_000_usize {
        let (key, payload) = ((number % 17).to_string(), number.to_string());
        producer.try_send(&record(&topic, &key, payload.as_bytes()), number / 1_000)?;
    }
    tokio::task::spawn_blocking(move || assert!(producer.flush(PATIENCE))).await?;
    assert_eq!([0, 1, 2, 3].map(|batch| outcomes.of(batch)), [(1_000, 0), (1_000, 0), (1_000, 0), (0, 0)]);
    let mut last: BTreeMap<i32, usize> = BTreeMap::new();
    for record in read(&settings, &topic).await? {
        let key = record.key.unwrap_or_default();
        let partition = i32::try_from(murmur2(&key))? % PARTITIONS;
        assert_eq!(record.partition, partition, "as the Java client chooses it");
        let number: usize = String::from_utf8(record.value.unwrap_or_default())?.parse()?;
        assert!(last.insert(record.partition, number).is_none_or(|before| before < number));
    }
    Ok(())
}

/// A record lingers for longer than anybody waits here, unless there is no more to come.
#[tokio::test]
async fn what_was_accepted_before_a_hurry_does_not_linger() -> Result<()> {
    let (mut settings, topic) = topic(&[]).await?;
    settings.linger = Duration::from_secs(900);
    let outcomes = Outcomes::default();
    let producer = Producer::new(&settings, outcomes.clone())?;
    for number in 0..20 {
        producer.try_send(&record(&topic, "1", b"first"), number)?;
        // Some behind their first acknowledgement, some beside it.
        if number % 2 == 0 {
            producer.try_send(&record(&topic, "2", b"second"), number)?;
            producer.hurry();
            eventually("the records are stored", async || Ok((outcomes.of(number) == (2, 0)).then_some(())))
                .await?;
        }
        producer.hurry();
        if number == 10 {
            producer.linger();
        }
    }
    eventually("the last one is stored", async || Ok((outcomes.of(19) == (1, 0)).then_some(()))).await?;
    let awaited = AwaitedProducer::new(&settings)?;
    awaited.send_all(&[record(&topic, "1", b"awaited")]).await?;
    Ok(())
}

#[tokio::test]
async fn a_full_queue_is_said_and_dropping_the_producer_reports_what_was_in_it() -> Result<()> {
    let mut settings = ProducerSettings::new(ClientSettings::new(NOWHERE, "test"));
    settings.queue_messages_max = 10;
    let outcomes = Outcomes::default();
    let producer = Producer::new(&settings, outcomes.clone())?;
    for _ in 0..10 {
        producer.try_send(&record("somewhere", "1", b"1"), 4)?;
    }
    assert_eq!(producer.try_send(&record("somewhere", "1", b"1"), 4), Err(SendError::QueueFull));
    tokio::task::spawn_blocking(move || drop(producer)).await?;
    assert_eq!(outcomes.of(4), (0, 10));
    Ok(())
}

#[tokio::test]
async fn a_refused_record_ends_a_producer_so_that_none_overtakes_it() -> Result<()> {
    let (settings, topic) = topic(&[("max.message.bytes", "1000")]).await?;
    let outcomes = Outcomes::default();
    let producer = Producer::new(&settings, outcomes.clone())?;
    producer.try_send(&record(&topic, "1", &[b'x'; 5_000]), 0)?;
    let producer = tokio::task::spawn_blocking(move || {
        let _ = producer.flush(PATIENCE);
        producer
    })
    .await?;
    assert_eq!(outcomes.of(0), (0, 1));
    assert!(producer.fatal_error().is_some());
    let later = producer.try_send(&record(&topic, "1", b"later"), 1);
    assert!(matches!(later, Err(SendError::Fatal(_))), "{later:?}");
    Ok(())
}

/// What became of each record that was not stored.
#[derive(Debug, Clone, Default)]
struct Failures(Arc<Mutex<Vec<DeliveryError>>>);

impl DeliverySink for Failures {
    fn delivered(&self, _: usize, outcome: Result<(), DeliveryError>) {
        self.0.lock().unwrap().extend(outcome.err());
    }
}

#[tokio::test]
async fn a_refusal_names_every_record_of_its_request() -> Result<()> {
    let (mut settings, topic) = topic(&[("max.message.bytes", "1000")]).await?;
    settings.linger = Duration::from_secs(1);
    let failures = Failures::default();
    let producer = Producer::new(&settings, failures.clone())?;
    for (name, size) in [("small", 10), ("large", 5_000), ("last", 10)] {
        let payload = vec![b'x'; size];
        let headers: [(&str, &[u8]); 1] = [("ce_id", name.as_bytes())];
        producer.try_send(&OutgoingRecord { headers: &headers, ..record(&topic, "1", &payload) }, 0)?;
    }
    tokio::task::spawn_blocking(move || producer.flush(PATIENCE)).await?;
    let failures = failures.0.lock().unwrap().clone();
    let mut refused = Vec::new();
    for failure in &failures {
        if let DeliveryError::Refused { refusal: Refusal::TooLarge, record, .. } = failure {
            assert_eq!(record.topic, topic);
            refused.push(String::from_utf8(record.header("ce_id").unwrap_or_default().to_vec())?);
        }
    }
    assert_eq!(refused, ["small", "large", "last"], "{failures:?}");
    Ok(())
}

#[tokio::test]
async fn a_gapless_awaited_producer_stores_nothing_behind_a_refused_record() -> Result<()> {
    let (settings, topic) = topic(&[("max.message.bytes", "1000")]).await?;
    let producer = AwaitedProducer::gapless(&settings)?;
    producer.send_all(&[record(&topic, "1", b"first")]).await?;
    let refused = producer.send_all(&[record(&topic, "1", &[b'x'; 5_000])]).await;
    assert!(matches!(refused, Err(PublishError::Delivery(DeliveryError::Refused { .. }))), "{refused:?}");
    assert!(producer.send_all(&[record(&topic, "1", b"behind")]).await.is_err());
    let values: Vec<_> =
        read(&settings, &topic).await?.into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [b"first"]);
    Ok(())
}

#[tokio::test]
async fn a_record_that_the_client_itself_finds_too_large_is_refused() -> Result<()> {
    let (settings, topic) = topic(&[]).await?;
    let producer = AwaitedProducer::new(&settings)?;
    let refused = producer.send_all(&[record(&topic, "1", &vec![b'x'; 2_000_000])]).await;
    let too_large =
        matches!(refused, Err(PublishError::Send(SendError::Refused { refusal: Refusal::TooLarge, .. })));
    assert!(too_large, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn an_awaited_refusal_fails_its_own_call_only() -> Result<()> {
    let (settings, topic) = topic(&[("max.message.bytes", "1000")]).await?;
    let producer = AwaitedProducer::new(&settings)?;
    producer.send_all(&[]).await?;
    producer.send_all(&[record(&topic, "1", b"first")]).await?;
    let refused = producer.send_all(&[record(&topic, "1", &[b'x'; 5_000])]).await;
    assert!(matches!(refused, Err(PublishError::Delivery(DeliveryError::Refused { .. }))), "{refused:?}");
    producer.send_all(&[record(&topic, "1", b"second"), record(&topic, "1", b"third")]).await?;
    let values: Vec<_> =
        read(&settings, &topic).await?.into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [&b"first"[..], b"second", b"third"]);
    Ok(())
}

#[tokio::test]
async fn settings_that_weaken_delivery_make_no_producer() -> Result<()> {
    let mut settings = ProducerSettings::new(ClientSettings::new(NOWHERE, "test"));
    settings.client.options.insert("acks".to_owned(), "1".to_owned());
    assert!(AwaitedProducer::new(&settings).is_err());
    assert!(Producer::new(&settings, Outcomes::default()).is_err());
    Ok(())
}
