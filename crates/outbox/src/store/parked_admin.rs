//! Rows of `outbox.parked` as operators see and change them.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use sqlx::{Connection, PgConnection};

use super::window::WholeEvent;
use crate::parked::{Decision, ParkedCount, ParkedFilter, ParkedState};

/// A parked row without its contents.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ParkedRow {
    pub(crate) shard: i16,
    pub(crate) id: i64,
    pub(crate) event_id: uuid::Uuid,
    pub(crate) event_type: String,
    pub(crate) topic: String,
    pub(crate) partition_key: String,
    /// Of payload and headers.
    pub(crate) bytes: i64,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) attempts: i32,
    pub(crate) parked_at: DateTime<Utc>,
    pub(crate) occurred_at: DateTime<Utc>,
}

macro_rules! row_columns {
    () => {
        "p.shard, p.id, p.event_id, p.event_type, p.topic, p.partition_key,
         (octet_length(coalesce(p.payload, '')) + octet_length(coalesce(p.headers, '')))::bigint as bytes,
         p.state, p.reason, p.error, p.attempts, p.parked_at, p.occurred_at"
    };
}

/// Parameters 1 to 5, in the order of [`bind_filter`].
macro_rules! matches_filter {
    () => {
        "($1::bigint[] is null or p.id = any($1)) and ($2::text is null or p.topic = $2)
         and ($3::text is null or p.partition_key = $3) and ($4::text is null or p.reason = $4)
         and ($5::text is null or p.state = $5)"
    };
}

type Query<'q, T> = QueryAs<'q, Postgres, T, PgArguments>;

fn bind_filter<'q, T>(query: Query<'q, T>, filter: &'q ParkedFilter) -> Query<'q, T> {
    query
        .bind((!filter.ids.is_empty()).then_some(&filter.ids))
        .bind(&filter.topic)
        .bind(&filter.key)
        .bind(&filter.reason)
        .bind(filter.state.map(ParkedState::name))
}

/// The first rows that match, in the order of their keys and ids.
pub(crate) async fn list_parked(
    connection: &mut PgConnection,
    filter: &ParkedFilter,
    limit: i64,
) -> Result<Vec<ParkedRow>, sqlx::Error> {
    let query = sqlx::query_as(concat!(
        "select ",
        row_columns!(),
        " from outbox.parked p where ",
        matches_filter!(),
        " order by p.topic, p.partition_key, p.id limit $6"
    ));
    bind_filter(query, filter).bind(limit).fetch_all(connection).await
}

/// The row, and all of its event.
pub(crate) async fn find_parked(
    connection: &mut PgConnection,
    id: i64,
) -> Result<Option<(ParkedRow, WholeEvent)>, sqlx::Error> {
    let row = sqlx::query_as(concat!("select ", row_columns!(), " from outbox.parked p where p.id = $1"))
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    let event = sqlx::query_as("select p.* from outbox.parked p where p.id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    Ok(row.zip(event))
}

/// Counts by shard.
pub(crate) async fn count_parked(connection: &mut PgConnection) -> Result<Vec<ParkedCount>, sqlx::Error> {
    sqlx::query_as(
        "select shard, count(*) filter (where state = 'refused') as refused,
                count(*) filter (where state = 'waiting') as waiting,
                count(distinct (topic, partition_key)) as keys
           from outbox.parked
          group by shard
          order by shard",
    )
    .fetch_all(connection)
    .await
}

/// What follows the CTE `changed`, which answers the rows as they were: an audit line for each, and a sign for the
/// owners of their shards. Parameters 6 to 8 are who, what and why.
macro_rules! and_audit {
    ($changed:expr) => {
        concat!(
            "with changed as (",
            $changed,
            "), audited as (
                insert into outbox.parked_audit
                       (done_by, action, why, shard, event_row, event_id, event_type, topic, partition_key, state,
                        reason, attempts)
                select $6, $7, $8, shard, id, event_id, event_type, topic, partition_key, state, reason, attempts
                  from changed
                 order by topic, partition_key, id),
             told as (
                update outbox.parked_change set revision = revision + 1
                 where shard in (select shard from changed))
             select count(*), count(distinct (topic, partition_key)) from changed"
        )
    };
}

const UNPARK: &str = and_audit!(concat!(
    "update outbox.parked p set state = 'waiting' where p.state = 'refused' and ",
    matches_filter!(),
    " returning p.shard, p.id, p.event_id, p.event_type, p.topic, p.partition_key, 'refused' as state, p.reason,
                p.attempts"
));

const DISCARD: &str = and_audit!(concat!(
    "delete from outbox.parked p where ",
    matches_filter!(),
    " returning p.shard, p.id, p.event_id, p.event_type, p.topic, p.partition_key, p.state, p.reason, p.attempts"
));

/// What is done with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParkedAction {
    Unpark,
    Discard,
}

/// Does it with every row that matches, in one statement with its audit lines; answers how many rows and keys. A dry run
/// does the same and takes it back.
pub(crate) async fn change_parked(
    connection: &mut PgConnection,
    action: ParkedAction,
    filter: &ParkedFilter,
    decision: &Decision<'_>,
) -> Result<(i64, i64), sqlx::Error> {
    let (statement, name) = match action {
        ParkedAction::Unpark => (UNPARK, "unpark"),
        ParkedAction::Discard => (DISCARD, "discard"),
    };
    let mut tx = connection.begin().await?;
    let changed = bind_filter(sqlx::query_as(statement), filter)
        .bind(decision.by)
        .bind(name)
        .bind(decision.why)
        .fetch_one(&mut *tx)
        .await?;
    if decision.dry_run {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok(changed)
}
