//! Where one run takes place: a database, a role and topics of its own.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Result;
use kafka_client::ClientSettings;
use kafka_client::admin::{Admin, TopicSpec};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use testkit::{TestDatabase, TestTopics};

use super::event::{PARTITIONS, TOPIC};
use super::store;

/// See the module.
pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    pub(crate) topics: TestTopics,
    pub(crate) admin: Admin,
    /// The members' role; no superuser, so that the server's limits hold for it.
    pub(crate) role: String,
}

impl Stage {
    pub(crate) async fn create() -> Result<Self> {
        let database = TestDatabase::create(&[inbox::migrations()]).await?;
        let topics = TestTopics::new()?;
        let admin = Admin::new(&ClientSettings::new(topics.brokers(), "torture"))?;
        let specs = [TOPIC.to_owned(), format!("{TOPIC}-dlt")].map(|name| TopicSpec {
            name: topics.name(&name),
            partitions: PARTITIONS,
            replication: 1,
            config: BTreeMap::new(),
        });
        admin.create_topics(&specs).await?;
        let mut connection = database.connect().await?;
        store::create_schema(&mut connection).await?;
        let role = store::create_role(&mut connection).await?;
        Ok(Self { database, topics, admin, role })
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        self.database.connect().await
    }

    pub(crate) fn client(&self) -> ClientSettings {
        ClientSettings::new(self.topics.brokers(), "torture")
    }

    /// The members' way to the database.
    pub(crate) fn member_url(&self) -> Result<String> {
        let options = PgConnectOptions::from_str(self.database.url())?.username(&self.role);
        Ok(options.to_url_lossy().to_string())
    }

    pub(crate) fn topic(&self) -> String {
        self.topics.name(TOPIC)
    }

    pub(crate) fn letter_topic(&self) -> String {
        self.topics.name(&format!("{TOPIC}-dlt"))
    }

    /// A name that no other run uses, for files.
    pub(crate) fn name(&self) -> &str {
        self.topics.prefix().trim_end_matches('-')
    }

    /// Drops everything, whoever still uses it.
    pub(crate) async fn remove(&self) -> Result<()> {
        self.admin.delete_topics(&[&self.topic(), &self.letter_topic()]).await?;
        self.database.clone().drop_database().await?;
        // Roles are the server's, not the database's.
        let mut connection =
            PgConnectOptions::from_str(&std::env::var("COMMERCE_DATABASE_URL")?)?.connect().await?;
        Ok(store::drop_role(&mut connection, &self.role).await?)
    }
}
