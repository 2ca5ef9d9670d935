//! `inbox.consumer_group` and `inbox.progress`: how far a group is in each partition.

use kafka_client::TopicPartition;
use sqlx::PgConnection;
use uuid::Uuid;

/// The number of a group, or `None` before its first assignment.
pub(crate) async fn find_group(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<i16>, sqlx::Error> {
    sqlx::query_scalar("select id from inbox.consumer_group where name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// Adds a group unless another process just did.
pub(crate) async fn insert_group(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("insert into inbox.consumer_group (name) values ($1) on conflict do nothing")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) next_offset: i64,
    /// Why it is not read.
    pub(crate) halted: Option<String>,
    /// The topic whose offset it is.
    pub(crate) topic_id: Option<Uuid>,
}

/// Where a partition stands; `None` before its first assignment.
pub(crate) async fn find_offset(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
) -> Result<Option<Stored>, sqlx::Error> {
    sqlx::query_as(
        "select next_offset, halted, topic_id from inbox.progress
          where consumer_group = $1 and topic = $2 and partition = $3",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .fetch_optional(connection)
    .await
}

/// Begins a partition at `first`, unless another process just did.
pub(crate) async fn insert_progress(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    first: i64,
    topic_id: Option<Uuid>,
    owner: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into inbox.progress (consumer_group, topic, partition, next_offset, first_offset, topic_id, owner)
         values ($1, $2, $3, $4, $4, $5, $6) on conflict do nothing",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .bind(first)
    .bind(topic_id)
    .bind(owner)
    .execute(connection)
    .await?;
    Ok(())
}

/// Remembers the topic of an offset that has none.
pub(crate) async fn fill_topic_id(
    connection: &mut PgConnection,
    group: i16,
    origin: &TopicPartition,
    topic_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.progress set topic_id = $4
          where consumer_group = $1 and topic = $2 and partition = $3 and topic_id is null",
    )
    .bind(group)
    .bind(&*origin.topic)
    .bind(origin.partition)
    .bind(topic_id)
    .execute(connection)
    .await?;
    Ok(())
}
