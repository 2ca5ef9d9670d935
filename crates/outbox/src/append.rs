//! Appends events in the caller's transaction.

use sqlx::PgConnection;
use thiserror::Error;
use uuid::Uuid;

use crate::SHARDS;
use crate::event::{AppendLimits, BadEvent, NewEvent};
use crate::headers;
use crate::metrics;
use crate::store::append::{EventColumns, insert_events};

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
    /// The database failed; the transaction is lost.
    #[error("events cannot be appended")]
    Database(#[source] sqlx::Error),
}

/// Appends `events` in this order by one statement of the caller's transaction: they are published if and only if it
/// commits.
///
/// Events of one key keep the commit order of their writers when those hold a common lock (a row of the aggregate) from
/// before this call until the commit. An empty slice is fine.
///
/// # Errors
/// The first bad event, before anything is written; or the database's failure.
pub async fn append(
    tx: &mut PgConnection,
    events: &[NewEvent],
    limits: &AppendLimits,
) -> Result<(), AppendError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut columns = EventColumns::with_capacity(events.len());
    for event in events {
        let refused = |reason| AppendError::Refused { event_id: event.event_id, reason };
        event.check(limits).map_err(refused)?;
        let encoded = headers::encode(&event.headers).map_err(|_| {
            refused(BadEvent::Header(event.headers.first().map(|(name, _)| name.clone()).unwrap_or_default()))
        })?;
        columns.push(event, shard_of(&event.partition_key), encoded);
    }
    insert_events(tx, columns).await.map_err(AppendError::Database)?;
    metrics::appended(events.len());
    Ok(())
}

/// Constants of the FNV-1a hash with 64 bits.
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The shard of a key. Stable for ever: stored rows were placed by it.
pub(crate) fn shard_of(partition_key: &str) -> i16 {
    let hash = partition_key
        .bytes()
        .fold(FNV_OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    // The low bits of FNV depend on the low bits of the bytes only: fold the high half in.
    i16::try_from((hash ^ (hash >> 32)) % u64::from(SHARDS)).expect("a remainder of 16 fits")
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
    fn keys_spread_over_all_shards() {
        let mut counts = [0_u32; 16];
        for key in 0..16_000 {
            counts[usize::try_from(shard_of(&key.to_string())).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
