//! A lending library that tells the world which books were lent, by the outbox, with tables of its own.
//!
//! `COMMERCE_DATABASE_URL` and `COMMERCE_KAFKA_BROKERS` name the servers; it makes a database and a topic there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kafka_client::admin::{Admin, TopicSpec};
use kafka_client::{ClientSettings, ProducerSettings};
use outbox::{AppendLimits, NewEvent, Nudge, RelaySettings, RelayStatus, RetentionSettings};
use outbox::{RetentionStatus, TickerSettings};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "example-library-loans";

/// The business change and its event: one transaction, so that both happen or neither.
async fn lend(connection: &mut PgConnection, book: i32, reader: &str) -> anyhow::Result<()> {
    let mut tx = connection.begin().await?;
    // This row lock is what keeps the events of one book in the order of its loans.
    let loans: i64 =
        sqlx::query_scalar("update book set reader = $2, loans = loans + 1 where id = $1 returning loans")
            .bind(book)
            .bind(reader)
            .fetch_one(&mut *tx)
            .await?;
    let (event_id, occurred_at) =
        (uuid::Uuid::now_v7(), sqlx::query_scalar("select now()").fetch_one(&mut *tx).await?);
    let event = NewEvent {
        event_id,
        event_type: "BookLent".into(),
        aggregate_type: "book".into(),
        aggregate_id: book.to_string(),
        aggregate_version: Some(loans),
        topic: TOPIC.to_owned(),
        partition_key: book.to_string(),
        payload: Some(serde_json::to_vec(&serde_json::json!({ "book": book, "reader": reader }))?),
        headers: Vec::new(),
        traceparent: None,
        occurred_at,
    };
    outbox::append(&mut tx, &[event], &AppendLimits::default()).await?;
    Ok(tx.commit().await?)
}

/// A database of its own with the outbox beside the library's table, and the topic.
async fn prepare(server: PgConnectOptions, client: &ClientSettings) -> anyhow::Result<PgConnectOptions> {
    let mut connection = PgConnection::connect_with(&server).await?;
    connection.execute("drop database if exists outbox_example_library with (force)").await?;
    connection.execute("create database outbox_example_library").await?;
    let options = server.database("outbox_example_library");
    let mut connection = PgConnection::connect_with(&options).await?;
    outbox::migrations().run(&mut connection).await?;
    connection
        .execute("create table book (id int primary key, reader text, loans bigint not null default 0)")
        .await?;
    connection.execute("insert into book (id) select generate_series(1, 3)").await?;
    let topic = TopicSpec { name: TOPIC.to_owned(), partitions: 3, replication: 1, config: [].into() };
    Admin::new(client)?.create_topics(&[topic]).await?;
    Ok(options)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let client = ClientSettings::new(variable("COMMERCE_KAFKA_BROKERS")?, "library");
    let options = prepare(variable("COMMERCE_DATABASE_URL")?.parse()?, &client).await?;
    // The three tasks of the outbox: usually of a process of their own, here of this one.
    let (nudge, stop, status) =
        (Nudge::default(), CancellationToken::new(), Arc::new(RelayStatus::default()));
    let settings = RelaySettings::new("library-1", ProducerSettings::new(client));
    let relay =
        outbox::relay::run(settings, options.clone(), Some(nudge.clone()), stop.clone(), Arc::clone(&status));
    let relay = tokio::spawn(relay);
    let ticker = tokio::spawn(outbox::ticker::run(TickerSettings::default(), options.clone(), stop.clone()));
    let retention = Arc::new(RetentionStatus::default());
    let retention =
        outbox::retention::run(RetentionSettings::default(), options.clone(), stop.clone(), retention);
    let retention = tokio::spawn(retention);
    let mut connection = PgConnection::connect_with(&options).await?;
    for (book, reader) in [(1, "Ada"), (2, "Grace"), (1, "Edsger"), (3, "Barbara"), (1, "Ada")] {
        lend(&mut connection, book, reader).await?;
        nudge.notify();
    }
    while status.published() < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{} loans are in topic {TOPIC}", status.published());
    stop.cancel();
    relay.await??;
    ticker.await?;
    Ok(retention.await??)
}
