//! Records that nobody should have sent: real ones a second time, and poison.

use commerce_events::TOPICS;
use kafka_client::{
    AwaitedProducer, ClientSettings, OutgoingRecord, ProducerSettings, StoredRecord, TopicReader,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::poison::{MARK, Poison, poison};

/// Steps between the products of consecutive poison records: spreads them over the partitions.
const PRODUCT_STEP: usize = 37;
/// Time of all poison records; none of them is ever counted by it.
const POISON_TIME: &str = "2026-01-01T00:00:00Z";

/// Sends to the topics of one demo.
pub(super) struct Resender {
    client: ClientSettings,
    topic_prefix: String,
    product_ids: Vec<i64>,
    seed: u64,
    random: Mutex<StdRng>,
    producer: AwaitedProducer,
}

impl Resender {
    pub(super) fn new(
        client: ClientSettings,
        topic_prefix: String,
        product_ids: Vec<i64>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let producer = AwaitedProducer::new(&ProducerSettings::new(client.clone()))?;
        Ok(Self { client, topic_prefix, product_ids, seed, random, producer })
    }

    /// Sends `count` records of the topics again, byte for byte, chosen by chance from all topics alike.
    pub(super) async fn send_duplicates(&self, count: usize) -> anyhow::Result<u64> {
        let mut samples = JoinSet::new();
        for (place, topic) in TOPICS.iter().enumerate() {
            let wanted = count * (place + 1) / TOPICS.len() - count * place / TOPICS.len();
            let topic = format!("{}{topic}", self.topic_prefix);
            let (client, seed) = (self.client.clone(), self.random.lock().await.random());
            samples.spawn_blocking(move || {
                let sample = sample(&client, &topic, wanted, seed)?;
                anyhow::Ok((topic, sample))
            });
        }
        let mut chosen: Vec<(String, StoredRecord)> = Vec::with_capacity(count);
        while let Some(sampled) = samples.join_next().await {
            let (topic, sample) = sampled??;
            chosen.extend(sample.into_iter().map(|record| (topic.clone(), record)));
        }
        // A topic that is nearly empty gives less; the others make up for it.
        let again: Vec<&(String, StoredRecord)> =
            chosen.iter().cycle().take(count.min(chosen.len() * 100)).collect();
        let headers: Vec<Vec<(&str, &[u8])>> = again.iter().map(|(_, record)| headers(record)).collect();
        let records: Vec<OutgoingRecord<'_>> = again
            .iter()
            .zip(&headers)
            .map(|((topic, record), headers)| OutgoingRecord {
                topic,
                key: record.key.as_deref(),
                payload: record.value.as_deref(),
                headers,
                partition: None,
                timestamp: record.timestamp,
            })
            .collect();
        self.producer.send_all(&records).await?;
        Ok(u64::try_from(records.len())?)
    }

    /// Sends poison records number `from` and following.
    pub(super) async fn send_poison(&self, from: usize, count: usize) -> anyhow::Result<Vec<Poison>> {
        let products = self.product_ids.len().max(1);
        let poisons: Vec<Poison> = (from..from + count)
            .map(|number| {
                let product_id = self.product_ids.get(number * PRODUCT_STEP % products).copied().unwrap_or(1);
                let name = format!("demo-{}-{number}", self.seed);
                poison(number, product_id, Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()), POISON_TIME)
            })
            .collect();
        let topics: Vec<String> =
            poisons.iter().map(|one| format!("{}{}", self.topic_prefix, one.topic)).collect();
        let headers: Vec<Vec<(&str, &[u8])>> = poisons
            .iter()
            .map(|one| one.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect())
            .collect();
        let records: Vec<OutgoingRecord<'_>> = poisons
            .iter()
            .zip(&topics)
            .zip(&headers)
            .map(|((one, topic), headers)| OutgoingRecord {
                topic,
                key: one.key.as_deref(),
                payload: one.value.as_deref(),
                headers,
                partition: None,
                timestamp: None,
            })
            .collect();
        self.producer.send_all(&records).await?;
        Ok(poisons)
    }
}

/// Up to `wanted` records of a topic, each with the same chance, without our own poison. Blocking.
fn sample(
    client: &ClientSettings,
    topic: &str,
    wanted: usize,
    seed: u64,
) -> anyhow::Result<Vec<StoredRecord>> {
    let mut reservoir = Reservoir::new(wanted, seed);
    let mut reader = TopicReader::open(client, topic)?;
    while let Some(record) = reader.next()? {
        if record.header(MARK).is_none() {
            reservoir.offer(record);
        }
    }
    Ok(reservoir.chosen)
}

/// Keeps a fair sample of a stream of unknown length.
struct Reservoir<T> {
    chosen: Vec<T>,
    wanted: usize,
    offered: usize,
    random: StdRng,
}

impl<T> Reservoir<T> {
    fn new(wanted: usize, seed: u64) -> Self {
        Self { chosen: Vec::with_capacity(wanted), wanted, offered: 0, random: StdRng::seed_from_u64(seed) }
    }

    fn offer(&mut self, item: T) {
        self.offered += 1;
        if self.chosen.len() < self.wanted {
            self.chosen.push(item);
        } else if let Some(place) = self.chosen.get_mut(self.random.random_range(0..self.offered)) {
            *place = item;
        }
    }
}

fn headers(record: &StoredRecord) -> Vec<(&str, &[u8])> {
    record.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservoir_keeps_every_item_with_the_same_chance() {
        let mut kept = [0_u32; 20];
        for seed in 0..4_000 {
            let mut reservoir = Reservoir::new(5, seed);
            (0..20_usize).for_each(|item| reservoir.offer(item));
            assert_eq!(reservoir.chosen.len(), 5);
            reservoir.chosen.iter().for_each(|item| kept[*item] += 1);
        }
        // Expected 1,000 each; six standard deviations are 165.
        assert!(kept.iter().all(|count| (835..1_165).contains(count)), "{kept:?}");
    }

    #[test]
    fn a_short_stream_is_kept_whole() {
        let mut reservoir = Reservoir::new(5, 1);
        (0..3).for_each(|item| reservoir.offer(item));
        assert_eq!(reservoir.chosen, [0, 1, 2]);
    }
}
