//! `commerce migrate`: tables and topics; safe to repeat, and to run from several hosts at once.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use commerce_events::{DEAD_LETTER_SUFFIX, TOPICS};
use kafka_client::admin::{Admin, TopicSpec};
use sqlx::{Connection, PgConnection};

use crate::config::Config;

pub(crate) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let shop = [outbox::migrations(), commerce_api::migrations()];
    apply(&config.database.url, &shop).await.context("migrating database.url")?;
    let metrics = [inbox::migrations(), commerce_streamer::migrations()];
    apply(config.metrics_url(), &metrics).await.context("migrating metrics.database_url")?;
    create_topics(config).await?;
    eprintln!("tables and topics are up to date");
    Ok(ExitCode::SUCCESS)
}

async fn apply(url: &str, migrators: &[sqlx::migrate::Migrator]) -> anyhow::Result<()> {
    let options = runtime::database::connect_options(url, "commerce-migrate")?;
    let mut connection = PgConnection::connect_with(&options).await?;
    for migrator in migrators {
        migrator.run(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

async fn create_topics(config: &Config) -> anyhow::Result<()> {
    let admin = Admin::new(&config.kafka.client("migrate"))?;
    let specs: Vec<TopicSpec> = TOPICS
        .iter()
        .flat_map(|topic| [(*topic).to_owned(), format!("{topic}{DEAD_LETTER_SUFFIX}")])
        .map(|name| TopicSpec {
            name: config.kafka.topic(&name),
            partitions: config.kafka.partitions,
            replication: config.kafka.replication_factor,
            config: BTreeMap::new(),
        })
        .collect();
    admin.create_topics(&specs).await.context("creating topics")?;
    Ok(())
}
