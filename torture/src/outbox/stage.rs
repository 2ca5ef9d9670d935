//! Where one run takes place: a database and a topic of its own.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use kafka_client::ClientSettings;
use kafka_client::admin::{Admin, TopicSpec};
use sqlx::PgConnection;
use testkit::{TestDatabase, TestTopics};

use super::script::KEYS;
use super::store;

/// Partitions of the topic.
pub(crate) const PARTITIONS: i32 = 6;
/// The server must allow so many prepared transactions before any is tried: others use it, too.
const PREPARED_MIN: i64 = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    topics: TestTopics,
    pub(crate) topic: String,
    /// Whether the server allows prepared transactions.
    pub(crate) may_prepare: bool,
}

impl Stage {
    pub(crate) async fn create() -> Result<Self> {
        let database = TestDatabase::create(&[outbox::migrations()]).await?;
        let topics = TestTopics::new()?;
        let topic = topics.name("torture");
        let spec =
            TopicSpec { name: topic.clone(), partitions: PARTITIONS, replication: 1, config: [].into() };
        Admin::new(&ClientSettings::new(topics.brokers(), "torture"))?.create_topics(&[spec]).await?;
        let mut connection = database.connect().await?;
        store::create_schema(&mut connection, KEYS).await?;
        let may_prepare = store::load_prepared_max(&mut connection).await? >= PREPARED_MIN;
        if !may_prepare {
            eprintln!(
                "NO PREPARED TRANSACTIONS: the server's max_prepared_transactions is below {PREPARED_MIN}, \
                 so this run leaves them out"
            );
        }
        Ok(Self { database, topics, topic, may_prepare })
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        self.database.connect().await
    }

    /// How to reach the brokers without any proxy.
    pub(crate) fn client(&self) -> ClientSettings {
        ClientSettings::new(self.topics.brokers(), "torture")
    }

    /// The broker's address, for proxies.
    pub(crate) fn broker(&self) -> Result<SocketAddr> {
        let brokers = self.topics.brokers();
        brokers.parse().with_context(|| format!("{brokers} is not one IP address with a port"))
    }

    /// A name that no other run uses, for files and owners.
    pub(crate) fn name(&self) -> &str {
        self.topics.prefix().trim_end_matches('-')
    }

    /// Ends what may be left prepared, and drops everything, whoever still uses it.
    pub(crate) async fn remove(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        for name in store::list_prepared(&mut connection).await? {
            store::resolve(&mut connection, &name, false).await?;
        }
        drop(connection);
        Admin::new(&self.client())?.delete_topics(&[&self.topic]).await?;
        self.database.clone().drop_database().await
    }
}
