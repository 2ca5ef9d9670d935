//! Appends events in the caller's transaction.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use thiserror::Error;
use uuid::Uuid;

use crate::SHARDS;
use crate::event::{AppendLimits, BadEvent, NewEvent};
use crate::headers;
use crate::metrics;
use crate::store::append::{Row, insert_many, insert_one, lock_keys};

/// Events that were not appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// An event can never be published as it is; nothing was sent to the database and the transaction is still usable.
    #[error("event {event_id} cannot be appended")]
    Refused {
        /// The event.
        event_id: Uuid,
        /// The broken rule.
        #[source]
        reason: BadEvent,
    },
    /// More keys than one transaction may lock; nothing was sent to the database.
    #[error("{keys} keys are to be serialised, {SERIALIZED_KEYS_MAX} are allowed")]
    TooManyKeys {
        /// How many.
        keys: usize,
    },
    /// The database failed; the transaction is lost.
    #[error("events cannot be appended")]
    Database(#[source] sqlx::Error),
}

/// Appends `events` in this order by one statement of the caller's transaction: they are published if and only if it
/// commits.
///
/// Events of one key keep the commit order of their writers when those hold a common lock (a row of the aggregate) from
/// before this call until the commit; without such a lock, use [`append_serialized`]. An empty slice is fine.
///
/// # Errors
/// The first bad event, before anything is written; or the database's failure.
pub async fn append(
    tx: &mut PgConnection,
    events: &[NewEvent],
    limits: &AppendLimits,
) -> Result<(), AppendError> {
    insert(tx, &encode(events, limits)?).await
}

/// Most keys of one [`append_serialized`]: each takes a place in the server's lock table, which all sessions share.
pub const SERIALIZED_KEYS_MAX: usize = 1_000;

/// As [`append`], for writers that have no row to lock: it first serialises on the keys (topic and partition key) of the
/// events, so that each key keeps the commit order of all writers that append to it by this function.
///
/// A lock is held for each key from before the events get their ids until the transaction ends; another writer of the
/// key waits meanwhile, for as long as its `lock_timeout` and `statement_timeout` allow. So call it as late as can be, but
/// before reading whatever the events of a key tell of: what is read behind this call is what the writer before left.
///
/// The locks are taken in one order, so calls never wait for each other in a circle. That holds for the whole transaction if
/// it calls this once, with all its events, and takes no lock afterwards that another writer holds when it calls this.
/// Writers that break the rule get a deadlock error from the database; nothing is published out of order.
///
/// # Errors
/// As [`append`]; or more than [`SERIALIZED_KEYS_MAX`] keys, before anything is sent to the database.
pub async fn append_serialized(
    tx: &mut PgConnection,
    events: &[NewEvent],
    limits: &AppendLimits,
) -> Result<(), AppendError> {
    let encoded = encode(events, limits)?;
    let locks: BTreeSet<i32> =
        events.iter().map(|event| key_lock(&event.topic, &event.partition_key)).collect();
    if locks.len() > SERIALIZED_KEYS_MAX {
        return Err(AppendError::TooManyKeys { keys: locks.len() });
    }
    if !locks.is_empty() {
        lock_keys(tx, locks.into_iter().collect()).await.map_err(AppendError::Database)?;
    }
    insert(tx, &encoded).await
}

/// Checks the events and encodes their headers; nothing is sent.
fn encode<'e>(events: &'e [NewEvent], limits: &AppendLimits) -> Result<Vec<Row<'e>>, AppendError> {
    let row = |event: &'e NewEvent| {
        let refused = |reason| AppendError::Refused { event_id: event.event_id, reason };
        event.check(limits).map_err(refused)?;
        let headers = headers::encode(&event.headers).map_err(|_| {
            refused(BadEvent::Header(event.headers.first().map(|(name, _)| name.clone()).unwrap_or_default()))
        })?;
        Ok(Row { event, shard: shard_of(&event.partition_key), headers })
    };
    events.iter().map(row).collect()
}

async fn insert(tx: &mut PgConnection, rows: &[Row<'_>]) -> Result<(), AppendError> {
    match rows {
        [] => return Ok(()),
        [row] => insert_one(tx, row).await,
        rows => insert_many(tx, rows).await,
    }
    .map_err(AppendError::Database)?;
    metrics::appended(rows.len());
    Ok(())
}

/// Constants of the FNV-1a hash with 64 bits.
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The shard of a key. Stable for ever: stored rows were placed by it.
pub(crate) fn shard_of(partition_key: &str) -> i16 {
    i16::try_from(hash(partition_key.bytes()) % u64::from(SHARDS)).expect("a remainder of 16 fits")
}

/// The lock of a key. The same in every process that writes to the database. Two keys may share one: they then wait for
/// each other, and nothing else happens.
fn key_lock(topic: &str, partition_key: &str) -> i32 {
    // Topic names have no NUL, so that no two pairs are one text.
    let hash = hash(topic.bytes().chain([0]).chain(partition_key.bytes()));
    u32::try_from(hash & u64::from(u32::MAX)).expect("32 bits fit").cast_signed()
}

fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(FNV_OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    // The low bits of FNV depend on the low bits of the bytes only: fold the high half in.
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_key_never_changes() {
        let keys = ["1", "2", "3", "85123A", "상품", ""];
        assert_eq!(keys.map(shard_of), [0, 9, 14, 4, 2, 1]);
    }

    #[test]
    fn the_lock_of_a_key_is_the_same_in_every_version_and_tells_topics_apart() {
        let locks = [("orders", "1"), ("orders", "2"), ("order", "s1"), ("상품", "상품")]
            .map(|(topic, key)| key_lock(topic, key));
        assert_eq!(locks, [1_859_259_691, 1_859_260_134, 1_472_635_998, -149_594_750]);
    }

    #[test]
    fn keys_spread_over_all_shards() {
        let mut counts = [0_u32; 16];
        for key in 0..16_000 {
            counts[usize::try_from(shard_of(&key.to_string())).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
