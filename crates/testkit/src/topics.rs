//! Names that no other test uses.

use anyhow::Context;
use uuid::Uuid;

/// `<what>_<time-sorted hex>`: a name for a database, a topic prefix or a key prefix.
#[must_use]
pub fn unique(what: &str) -> String {
    format!("{what}_{}", Uuid::now_v7().simple())
}

/// The Redis of the services.
///
/// # Errors
/// When the services are not up.
pub fn redis_url() -> anyhow::Result<String> {
    std::env::var("COMMERCE_REDIS_URL")
        .context("COMMERCE_REDIS_URL is not set: run the tests by `cargo x test`")
}

/// The brokers of the services and a prefix that no other test uses.
#[derive(Debug, Clone)]
pub struct TestTopics {
    brokers: String,
    prefix: String,
}

impl TestTopics {
    /// A new prefix; topics are created by whoever knows their names.
    ///
    /// # Errors
    /// When the services are not up.
    pub fn new() -> anyhow::Result<Self> {
        let brokers = std::env::var("COMMERCE_KAFKA_BROKERS")
            .context("COMMERCE_KAFKA_BROKERS is not set: run the tests by `cargo x test`")?;
        Ok(Self { brokers, prefix: format!("{}-", unique("test").replace('_', "-")) })
    }

    /// `host:port` list.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// In front of every topic and group of the test.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `name` with the prefix in front.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
