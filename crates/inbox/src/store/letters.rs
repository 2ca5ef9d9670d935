//! `inbox.dead_letter` and its audit, as operators read them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use uuid::Uuid;

use crate::dead_letter::{
    AuditEntry, Letter, LetterDepth, LetterFilter, LetterGroup, LetterPlace, LetterStatus, WholeLetter,
};

/// The conditions of a filter: parameters 1 to 10, bound by [`bind`].
macro_rules! matching {
    () => {
        "(($1::uuid[] is null or id = any($1))
          and ($2::text[] is null or consumer_group = any($2))
          and ($3::text[] is null or topic = any($3))
          and ($4::text is null or event_type = $4)
          and ($5::text is null or reason = $5)
          and ($6::text is null or fingerprint = $6)
          and ($7::bytea is null or key = $7)
          and ($8::timestamptz is null or first_seen >= $8)
          and ($9::timestamptz is null or first_seen < $9)
          and status = any($10))"
    };
}
pub(crate) use matching;

/// The order of places, and where a page begins: parameters 11 to 14, bound by [`bind_cursor`].
macro_rules! after_cursor {
    () => {
        "($11::text is null or (topic, partition, \"offset\", consumer_group) > ($11, $12, $13, $14))"
    };
}
pub(crate) use after_cursor;

/// Columns of a [`Letter`].
macro_rules! letter_columns {
    () => {
        "id, consumer_group, topic, partition, \"offset\", event_id, event_type, reason, fingerprint, error, attempts,
         first_seen, last_seen, status, redrive_count, first_id, lacks, key, value_bytes"
    };
}

type Rows<'q, O> = QueryAs<'q, Postgres, O, PgArguments>;

/// Binds the conditions of `matching!`.
pub(crate) fn bind<'q, O>(query: Rows<'q, O>, filter: &LetterFilter) -> Rows<'q, O> {
    let filter = filter.cleaned();
    let statuses: Vec<String> = filter.statuses.iter().map(|status| status.as_str().to_owned()).collect();
    query
        .bind((!filter.ids.is_empty()).then_some(filter.ids))
        .bind((!filter.groups.is_empty()).then_some(filter.groups))
        .bind((!filter.topics.is_empty()).then_some(filter.topics))
        .bind(filter.event_type)
        .bind(filter.reason)
        .bind(filter.fingerprint)
        .bind(filter.key)
        .bind(filter.since)
        .bind(filter.until)
        .bind(statuses)
}

/// Binds the cursor of `after_cursor!`.
pub(crate) fn bind_cursor<'q, O>(query: Rows<'q, O>, cursor: Option<&LetterPlace>) -> Rows<'q, O> {
    let cursor = cursor.cloned();
    query
        .bind(cursor.as_ref().map(|place| place.topic.clone()))
        .bind(cursor.as_ref().map(|place| place.partition))
        .bind(cursor.as_ref().map(|place| place.offset))
        .bind(cursor.map(|place| place.consumer_group))
}

/// The database's clock.
pub(crate) async fn clock(connection: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await
}

/// The newest letters, newest first.
pub(crate) async fn list_newest(
    connection: &mut PgConnection,
    filter: &LetterFilter,
    limit: i64,
) -> Result<Vec<Letter>, sqlx::Error> {
    let statement = concat!(
        "select ",
        letter_columns!(),
        " from inbox.dead_letter where ",
        matching!(),
        " order by first_seen desc, id limit $11"
    );
    bind(sqlx::query_as(statement), filter).bind(limit).fetch_all(connection).await
}

/// How many letters match.
pub(crate) async fn count(connection: &mut PgConnection, filter: &LetterFilter) -> Result<i64, sqlx::Error> {
    let statement = concat!("select count(*) from inbox.dead_letter where ", matching!());
    let (count,): (i64,) = bind(sqlx::query_as(statement), filter).fetch_one(connection).await?;
    Ok(count)
}

/// Letters with their records after `cursor`, by place.
pub(crate) async fn list_whole(
    connection: &mut PgConnection,
    filter: &LetterFilter,
    cursor: Option<&LetterPlace>,
    limit: i64,
) -> Result<Vec<WholeLetter>, sqlx::Error> {
    let statement = concat!(
        "select ",
        letter_columns!(),
        ", value, headers, record_timestamp, record_timestamp_type, traceparent from inbox.dead_letter where ",
        matching!(),
        " and ",
        after_cursor!(),
        " order by topic, partition, \"offset\", consumer_group limit $15"
    );
    let query = bind_cursor(bind(sqlx::query_as(statement), filter), cursor);
    query.bind(limit).fetch_all(connection).await
}

/// Letters by cause, the most frequent first, each with its newest letter.
pub(crate) async fn group(
    connection: &mut PgConnection,
    filter: &LetterFilter,
    limit: i64,
) -> Result<Vec<LetterGroup>, sqlx::Error> {
    let statement = concat!(
        "-- How many letters each cause has.
         with cause as (
             select fingerprint, count(*) as letters, count(*) filter (where status in ('new', 'published')) as open,
                    array_agg(distinct consumer_group) as consumer_groups, array_agg(distinct topic) as topics,
                    min(first_seen) as first_seen, max(last_seen) as last_seen
               from inbox.dead_letter
              where ",
        matching!(),
        "     group by fingerprint
              order by letters desc, fingerprint
              limit $11)
         select c.*, newest.id as sample_id, newest.event_type, newest.reason, newest.error as sample_error
           from cause c
          cross join lateral (
             select id, event_type, reason, error
               from inbox.dead_letter
              where fingerprint = c.fingerprint and ",
        matching!(),
        "     order by last_seen desc, id
              limit 1) newest
          order by c.letters desc, c.fingerprint"
    );
    bind(sqlx::query_as(statement), filter).bind(limit).fetch_all(connection).await
}

/// The first letter in the queue of this letter's key, unless it is this one.
pub(crate) async fn find_first_of_key(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select first.id
           from inbox.dead_letter d
           join inbox.blocked_key k
             on k.consumer_group = d.consumer_group and k.topic = d.topic and k.key_digest = d.key_digest
           join inbox.dead_letter first
             on first.consumer_group = d.consumer_group and first.topic = d.topic and first.key_digest = d.key_digest
            and first.turn > k.passed_turn and first.turn < d.turn
          where d.id = $1
          order by first.turn
          limit 1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// Letters of the event whose first letter is `first_id`, without `except`, oldest first.
pub(crate) async fn list_lives(
    connection: &mut PgConnection,
    first_id: Uuid,
    except: Uuid,
) -> Result<Vec<Letter>, sqlx::Error> {
    let statement = concat!(
        "select ",
        letter_columns!(),
        " from inbox.dead_letter where (id = $1 or first_id = $1) and id <> $2 order by redrive_count, first_seen, id"
    );
    sqlx::query_as(statement).bind(first_id).bind(except).fetch_all(connection).await
}

/// What was done to a letter, oldest first.
pub(crate) async fn list_audit(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Vec<AuditEntry>, sqlx::Error> {
    sqlx::query_as(
        "select operation_id, acted_at, actor, action, reason, dead_letter_id, status_before, redrive_count
           from inbox.dead_letter_audit
          where dead_letter_id = $1
          order by id",
    )
    .bind(id)
    .fetch_all(connection)
    .await
}

/// How many letters of each group wait, and how old the oldest is.
pub(crate) async fn depths(
    connection: &mut PgConnection,
    groups: &[String],
) -> Result<Vec<LetterDepth>, sqlx::Error> {
    let waiting = LetterStatus::WAITING.map(|status| status.as_str().to_owned());
    sqlx::query_as(
        "select consumer_group, status, count(*) as letters,
                extract(epoch from clock_timestamp() - min(first_seen))::float8 as oldest_age_seconds
           from inbox.dead_letter
          where consumer_group = any($1) and status = any($2)
          group by 1, 2
          order by 1, 2",
    )
    .bind(groups)
    .bind(waiting)
    .fetch_all(connection)
    .await
}
