//! `inbox.blocked_key` and the letters that wait in the order of their keys.
//!
//! A key's row is locked before any of its letters, and rows of several keys in the order of the primary key.

use std::collections::{BTreeSet, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::dead_letter::Row;
use super::dead_letter::row_columns;
use crate::dead_letter::{Cause, LetterStatus};
use crate::settings::BlockedLimits;

/// A topic as one group reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic<'a> {
    pub(crate) group: &'a str,
    pub(crate) name: &'a str,
}

/// A key whose events wait.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct BlockedKey {
    pub(crate) consumer_group: String,
    pub(crate) topic: String,
    pub(crate) key_digest: Uuid,
    /// Letters up to this turn are done with.
    pub(crate) passed_turn: i64,
}

/// A letter of a key's queue with its record.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct QueuedLetter {
    pub(crate) turn: i64,
    #[sqlx(try_from = "String")]
    pub(crate) status: LetterStatus,
    #[sqlx(flatten)]
    pub(crate) row: Row,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Crowd {
    pub(crate) keys: i64,
    /// Of the key with the most letters, among those that were asked about.
    pub(crate) letters: i64,
}

/// Whether any key of the topic is blocked.
pub(crate) async fn has_keys(tx: &mut PgConnection, topic: Topic<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from inbox.blocked_key where consumer_group = $1 and topic = $2)",
    )
    .bind(topic.group)
    .bind(topic.name)
    .fetch_one(tx)
    .await
}

/// Whether any key of a group is blocked.
pub(crate) async fn has_keys_of_group(
    connection: &mut PgConnection,
    group: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from inbox.blocked_key where consumer_group = $1)")
        .bind(group)
        .fetch_one(connection)
        .await
}

/// Those of the keys that are blocked; they stay so to the end of the transaction.
pub(crate) async fn lock_keys(
    tx: &mut PgConnection,
    topic: Topic<'_>,
    keys: &BTreeSet<Uuid>,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let blocked: Vec<Uuid> = sqlx::query_scalar(
        "select key_digest from inbox.blocked_key
          where consumer_group = $1 and topic = $2 and key_digest = any($3)
          order by key_digest
            for update",
    )
    .bind(topic.group)
    .bind(topic.name)
    .bind(keys.iter().copied().collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    Ok(blocked.into_iter().collect())
}

/// Blocks keys.
pub(crate) async fn insert_keys(
    tx: &mut PgConnection,
    topic: Topic<'_>,
    keys: &BTreeSet<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into inbox.blocked_key (consumer_group, topic, key_digest)
         select $1, $2, key from unnest($3::uuid[]) as wanted (key) order by key
         on conflict do nothing",
    )
    .bind(topic.group)
    .bind(topic.name)
    .bind(keys.iter().copied().collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts up to just above the limits.
pub(crate) async fn measure(
    tx: &mut PgConnection,
    topic: Topic<'_>,
    keys: &BTreeSet<Uuid>,
    limits: BlockedLimits,
) -> Result<Crowd, sqlx::Error> {
    sqlx::query_as(
        "select (select count(*)
                   from (select from inbox.blocked_key where consumer_group = $1 and topic = $2 limit $4) k) as keys,
                coalesce((select max(queue.letters)
                            from inbox.blocked_key k
                           cross join lateral (
                                -- The queue of one key, as far as it matters.
                                select count(*) as letters
                                  from (select from inbox.dead_letter d
                                         where d.consumer_group = k.consumer_group and d.topic = k.topic
                                           and d.key_digest = k.key_digest and d.turn > k.passed_turn
                                         limit $5) d) queue
                           where k.consumer_group = $1 and k.topic = $2 and k.key_digest = any($3)), 0) as letters",
    )
    .bind(topic.group)
    .bind(topic.name)
    .bind(keys.iter().copied().collect::<Vec<_>>())
    .bind(i64::from(limits.keys_max) + 1)
    .bind(i64::from(limits.letters_max) + 1)
    .fetch_one(tx)
    .await
}

/// Locks the keys of these letters.
pub(crate) async fn lock_keys_of(tx: &mut PgConnection, letters: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select from inbox.blocked_key k
          where (k.consumer_group, k.topic, k.key_digest) in (
                    select consumer_group, topic, key_digest from inbox.dead_letter where id = any($1))
          order by k.consumer_group, k.topic, k.key_digest
            for update",
    )
    .bind(letters)
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets consumers go on with those of the letters' keys whose first letter waits for no operator any more.
pub(crate) async fn release_keys_of(tx: &mut PgConnection, letters: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.blocked_key k
            set is_released = true
          where (k.consumer_group, k.topic, k.key_digest) in (
                    select consumer_group, topic, key_digest from inbox.dead_letter where id = any($1))
            and not k.is_released
            and (select d.status
                   from inbox.dead_letter d
                  where d.consumer_group = k.consumer_group and d.topic = k.topic and d.key_digest = k.key_digest
                    and d.turn > k.passed_turn
                  order by d.turn
                  limit 1) not in ('new', 'published')",
    )
    .bind(letters)
    .execute(tx)
    .await?;
    Ok(())
}

/// Keys with which a consumer may go on, those that have waited the longest first.
pub(crate) async fn list_released(
    connection: &mut PgConnection,
    group: &str,
    limit: i64,
) -> Result<Vec<BlockedKey>, sqlx::Error> {
    sqlx::query_as(
        "select consumer_group, topic, key_digest, passed_turn
           from inbox.blocked_key
          where consumer_group = $1 and is_released
          order by blocked_at, topic, key_digest
          limit $2",
    )
    .bind(group)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// The first letters of a key's queue, with not much more than `bytes_max` of values.
pub(crate) async fn list_queue(
    connection: &mut PgConnection,
    key: &BlockedKey,
    limit: i64,
    bytes_max: i64,
) -> Result<Vec<QueuedLetter>, sqlx::Error> {
    sqlx::query_as(concat!(
        "select turn, status, ",
        row_columns!(),
        " from (select *, sum(coalesce(octet_length(value), 0)) over before as bytes_before
                     from (select * from inbox.dead_letter
                            where consumer_group = $1 and topic = $2 and key_digest = $3 and turn > $4
                            order by turn limit $5) first_letters
                   window before as (order by turn rows between unbounded preceding and 1 preceding)) d
            where coalesce(bytes_before, 0) <= $6
            order by turn",
    ))
    .bind(&key.consumer_group)
    .bind(&key.topic)
    .bind(key.key_digest)
    .bind(key.passed_turn)
    .bind(limit)
    .bind(bytes_max)
    .fetch_all(connection)
    .await
}

/// Locks a key that nobody else is at, if it is as it was read.
pub(crate) async fn try_lock_released(tx: &mut PgConnection, key: &BlockedKey) -> Result<bool, sqlx::Error> {
    let found: Option<bool> = sqlx::query_scalar(
        "select true from inbox.blocked_key
          where consumer_group = $1 and topic = $2 and key_digest = $3 and passed_turn = $4 and is_released
            for update skip locked",
    )
    .bind(&key.consumer_group)
    .bind(&key.topic)
    .bind(key.key_digest)
    .bind(key.passed_turn)
    .fetch_optional(tx)
    .await?;
    Ok(found.is_some())
}

/// Locks the letters of a locked key's queue up to `turn`; answers them in order, as they are now.
pub(crate) async fn lock_queue(
    tx: &mut PgConnection,
    key: &BlockedKey,
    turn: i64,
) -> Result<Vec<(Uuid, LetterStatus)>, sqlx::Error> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "select id, status from inbox.dead_letter
          where consumer_group = $1 and topic = $2 and key_digest = $3 and turn > $4 and turn <= $5
          order by turn
            for update",
    )
    .bind(&key.consumer_group)
    .bind(&key.topic)
    .bind(key.key_digest)
    .bind(key.passed_turn)
    .bind(turn)
    .fetch_all(tx)
    .await?;
    let read = |(id, status): (Uuid, String)| {
        Ok((id, status.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?))
    };
    rows.into_iter().map(read).collect()
}

/// The letters that waited have had their turn; answers how many.
pub(crate) async fn mark_released(tx: &mut PgConnection, letters: &[Uuid]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update inbox.dead_letter set status = 'released' where id = any($1) and status = 'blocked'",
    )
    .bind(letters)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Moves a locked key behind a turn.
pub(crate) async fn pass(tx: &mut PgConnection, key: &BlockedKey, turn: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.blocked_key set passed_turn = $4
          where consumer_group = $1 and topic = $2 and key_digest = $3",
    )
    .bind(&key.consumer_group)
    .bind(&key.topic)
    .bind(key.key_digest)
    .bind(turn)
    .execute(tx)
    .await?;
    Ok(())
}

/// Unblocks a locked key behind whose `turn` nothing waits; answers whether it did. A statement of its own behind the lock:
/// what was set aside while the lock was awaited is seen.
pub(crate) async fn delete_if_empty(
    tx: &mut PgConnection,
    key: &BlockedKey,
    turn: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "delete from inbox.blocked_key k
          where consumer_group = $1 and topic = $2 and key_digest = $3
            and not exists (
                select from inbox.dead_letter d
                 where d.consumer_group = k.consumer_group and d.topic = k.topic and d.key_digest = k.key_digest
                   and d.turn > $4)",
    )
    .bind(&key.consumer_group)
    .bind(&key.topic)
    .bind(key.key_digest)
    .bind(turn)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A locked key waits for an operator again.
pub(crate) async fn hold(tx: &mut PgConnection, key: &BlockedKey) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.blocked_key set is_released = false
          where consumer_group = $1 and topic = $2 and key_digest = $3",
    )
    .bind(&key.consumer_group)
    .bind(&key.topic)
    .bind(key.key_digest)
    .execute(tx)
    .await?;
    Ok(())
}

/// A letter of the queue failed when its turn came: from now on it is what the others wait for.
pub(crate) async fn set_aside_again(
    tx: &mut PgConnection,
    letter: Uuid,
    cause: &Cause,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.dead_letter
            set status = 'new', reason = $2, error = $3, fingerprint = $4, attempts = attempts + 1,
                last_seen = clock_timestamp()
          where id = $1",
    )
    .bind(letter)
    .bind(cause.reason)
    .bind(&cause.error)
    .bind(&cause.fingerprint)
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts events that letters brought in, beside those of the partitions' progress.
pub(crate) async fn count_released(
    tx: &mut PgConnection,
    group: i16,
    released: i64,
    given_up: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.consumer_group set released = released + $2, given_up = given_up + $3 where id = $1",
    )
    .bind(group)
    .bind(released)
    .bind(given_up)
    .execute(tx)
    .await?;
    Ok(())
}
