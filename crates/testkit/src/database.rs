//! A database of its own for each test.

use std::str::FromStr;

use anyhow::Context;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor};

use crate::eventually;
use crate::topics::unique;

/// A new, empty database; dropped by [`TestDatabase::drop_database`], or left to the next `services down`.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    name: String,
    server: PgConnectOptions,
    url: String,
}

impl TestDatabase {
    /// Creates a database and applies `migrations` in order.
    ///
    /// # Errors
    /// When the services are not up (`cargo x services up`), or a migration fails.
    pub async fn create(migrations: &[Migrator]) -> anyhow::Result<Self> {
        let server_url = std::env::var("COMMERCE_DATABASE_URL")
            .context("COMMERCE_DATABASE_URL is not set: run the tests by `cargo x test`")?;
        let server = PgConnectOptions::from_str(&server_url)?.disable_statement_logging();
        let name = unique("test");
        let mut connection = PgConnection::connect_with(&server).await?;
        connection.execute(sqlx::AssertSqlSafe(format!("create database {name}"))).await?;
        connection.close().await?;
        let url = server.clone().database(&name).to_url_lossy().to_string();
        let database = Self { name, server, url };
        let mut connection = database.connect().await?;
        for migrator in migrations {
            migrator.run(&mut connection).await?;
        }
        connection.close().await?;
        Ok(database)
    }

    /// How to connect to it.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// Its URL, for processes.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options()).await?)
    }

    /// Waits until somebody in it waits for a lock that another holds; `what` is said when nobody ever does.
    ///
    /// # Errors
    /// When the server refuses, or nobody waits in time.
    pub async fn somebody_waits(&self, what: &str) -> anyhow::Result<()> {
        let mut observer = self.connect().await?;
        eventually(what, async || {
            let waits: bool = sqlx::query_scalar(
                "select exists (select from pg_stat_activity
                                 where datname = current_database() and wait_event_type = 'Lock')",
            )
            .fetch_one(&mut observer)
            .await?;
            Ok(waits.then_some(()))
        })
        .await
    }

    /// Drops it and ends every connection to it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn drop_database(self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect_with(&self.server).await?;
        let name = &self.name;
        connection.execute(sqlx::AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
        Ok(())
    }
}
