//! What belongs to one run alone: a database, topics and consumer groups by prefix, cache keys by prefix.

use commerce_events::{DEAD_LETTER_SUFFIX, TOPICS};
use kafka_client::ClientSettings;
use kafka_client::admin::Admin;
use uuid::Uuid;

use super::{DemoSettings, store};

/// How long a page waits for the commit of its view: on a machine where Kafka starts beside everything else, a commit
/// may take long, and a view of which nobody knows would make the proof ambiguous.
const VIEW_COMMIT_WAIT: &str = "8s";

/// The names of one run.
#[derive(Debug, Clone)]
pub(super) struct Isolation {
    /// Of the database.
    pub(super) name: String,
    pub(super) database_url: String,
    pub(super) topic_prefix: String,
}

impl Isolation {
    /// Creates the database; topics are `commerce migrate`'s.
    pub(super) async fn create(settings: &DemoSettings) -> anyhow::Result<Self> {
        let name = format!("commerce_demo_{}_{}", settings.seed, Uuid::now_v7().simple());
        // PostgreSQL cuts names at 63 bytes; seeds have up to 20 digits.
        let name: String = name.chars().take(60).collect();
        let database_url = store::create_database(&settings.database_url, &name).await?;
        let topic_prefix = format!("{}-", name.replace('_', "-"));
        Ok(Self { name, database_url, topic_prefix })
    }

    /// The roles' settings that differ from their defaults.
    pub(super) fn environment(&self, settings: &DemoSettings) -> Vec<(String, String)> {
        [
            ("DATABASE_URL", self.database_url.as_str()),
            ("METRICS_DATABASE_URL", ""),
            ("KAFKA_BROKERS", &settings.kafka_brokers),
            ("KAFKA_TOPIC_PREFIX", &self.topic_prefix),
            ("REDIS_URL", &settings.redis_url),
            ("CACHE_KEY_PREFIX", &format!("{}:", self.name)),
            ("API_VIEW_COMMIT_WAIT", VIEW_COMMIT_WAIT),
        ]
        .map(|(name, value)| (format!("COMMERCE_{name}"), value.to_owned()))
        .to_vec()
    }

    /// How to reach the topics.
    pub(super) fn client(&self, settings: &DemoSettings) -> ClientSettings {
        ClientSettings::new(&settings.kafka_brokers, "commerce-demo")
    }

    /// Drops database and topics. Cache keys run out by themselves.
    pub(super) async fn remove(&self, settings: &DemoSettings) -> anyhow::Result<()> {
        let topics: Vec<String> = TOPICS
            .iter()
            .flat_map(|topic| {
                ["", DEAD_LETTER_SUFFIX].map(|suffix| format!("{}{topic}{suffix}", self.topic_prefix))
            })
            .collect();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        Admin::new(&self.client(settings))?.delete_topics(&names).await?;
        Ok(store::drop_database(&settings.database_url, &self.name).await?)
    }
}
