//! What a consumer reads, and how much it holds in memory.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::settings::ClientSettings;

/// Group, topics, and the limits of what is fetched ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Brokers and free options.
    pub client: ClientSettings,
    /// Full name of the consumer group.
    pub group: String,
    /// Full names of the topics.
    pub topics: Vec<String>,
    /// Static membership: a name that survives a restart and that no other process has. A restarted process then
    /// takes up its partitions without a rebalance.
    pub instance: Option<String>,
    /// A process that gives no sign of life for so long loses its partitions.
    pub session_timeout: Duration,
    /// Most records of one batch.
    pub batch_records_max: usize,
    /// A batch is closed when it has as many bytes.
    pub batch_bytes_max: usize,
    /// Longest wait for a fuller batch that is wanted.
    pub linger: Duration,
    /// Bytes of all batches together that are being filled or worked on. Beside it each partition may hold a small batch (512
    /// records, a 32nd of `batch_bytes_max`), and one record may exceed either.
    pub buffer_bytes_max: usize,
    /// Each partition is fetched ahead to about so many records.
    pub queued_records_min: u32,
    /// Each partition is fetched ahead to at most about so many kilobytes.
    pub queued_kbytes_max: u32,
}

impl ConsumerSettings {
    /// Settings for high throughput in less than 200 MB with 18 partitions.
    #[must_use]
    pub fn new(client: ClientSettings, group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            client,
            group: group.into(),
            topics,
            instance: None,
            session_timeout: Duration::from_secs(10),
            batch_records_max: 20_000,
            batch_bytes_max: 8 * 1024 * 1024,
            linger: Duration::ZERO,
            buffer_bytes_max: 24 * 1024 * 1024,
            queued_records_min: 2_000,
            queued_kbytes_max: 768,
        }
    }

    pub(super) fn config(&self) -> ClientConfig {
        let session = self.session_timeout.as_millis().max(1);
        let heartbeat = (session / 3).clamp(1, 3_000).to_string();
        let mut config = self.client.config(&[
            // The broker answers as soon as there is a byte.
            ("fetch.min.bytes", "1"),
            // While some partitions are fetched ahead far enough, the library asks for the others alone, and if these have
            // nothing, the broker holds the answer, and every partition of it, for so long: with 500 ms a backlog was
            // consumed at a quarter of the speed. Idle, it costs 50 small requests a second.
            ("fetch.wait.max.ms", "20"),
            // After the local queue was full; the default of 1 s starves the workers.
            ("fetch.queue.backoff.ms", "5"),
            // An answer stays in memory until its last record is taken.
            ("fetch.max.bytes", "2097152"),
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("max.poll.interval.ms", "60000"),
            ("heartbeat.interval.ms", &heartbeat),
        ]);
        config
            .set("group.id", &self.group)
            .set("session.timeout.ms", session.to_string())
            .set("queued.min.messages", self.queued_records_min.max(1).to_string())
            .set("queued.max.messages.kbytes", self.queued_kbytes_max.max(1).to_string())
            // The offsets that count are in the database; these keep the library from moving on its own.
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            // With the group protocol of KIP-848, this version of the library can skip records.
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "1000");
        if let Some(instance) = &self.instance {
            config.set("group.instance.id", instance);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_options_do_not_weaken_what_the_consumer_relies_on() {
        let mut client = ClientSettings::new("broker:9092", "streamer");
        for (name, value) in [
            ("enable.auto.commit", "true"),
            ("enable.auto.offset.store", "true"),
            ("auto.offset.reset", "latest"),
            ("group.protocol", "consumer"),
            ("partition.assignment.strategy", "range"),
            ("fetch.wait.max.ms", "50"),
        ] {
            client.options.insert(name.to_owned(), value.to_owned());
        }
        let config = ConsumerSettings::new(client, "group", vec![]).config();
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("enable.auto.offset.store"), Some("false"));
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
        assert_eq!(config.get("group.protocol"), Some("classic"));
        assert_eq!(config.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        assert_eq!(config.get("fetch.wait.max.ms"), Some("50"));
        assert_eq!(config.get("group.instance.id"), None);
    }
}
