//! What operators do with parked records: look, publish after all, or discard.
//!
//! Invariant: every action leaves an audit line for each record, in the same transaction. Actions only change what is
//! stored; the relay that owns the shard notices within about a second and publishes what waits for nothing any more, in
//! order. Pressing twice is harmless: the second time nothing matches.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use thiserror::Error;
use uuid::Uuid;

use crate::headers::decode_into;
use crate::relay::source_of;
use crate::store::parked_admin::{
    ParkedAction, ParkedRow, change_parked, count_parked, find_parked, list_parked,
};

/// Why a record is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedState {
    /// The broker refuses it: an operator must decide.
    Refused,
    /// Behind a refused one of its key, or about to be published.
    Waiting,
}

impl ParkedState {
    /// As stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Waiting => "waiting",
        }
    }
}

/// Which parked records; what is not given matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedFilter {
    /// Rows of the outbox (`ce_sequence`).
    pub ids: Vec<i64>,
    /// Full topic name.
    pub topic: Option<String>,
    /// Partition key.
    pub key: Option<String>,
    /// Class of the last refusal: `too_large`, `invalid`, `unreadable`.
    pub reason: Option<String>,
    /// State.
    pub state: Option<ParkedState>,
}

/// A parked record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedRecord {
    /// Row of the outbox (`ce_sequence`).
    pub id: i64,
    /// Shard of the key.
    pub shard: i16,
    /// Identity of the event (`ce_id`).
    pub event_id: Uuid,
    /// Name of the event.
    pub event_type: String,
    /// Full topic name.
    pub topic: String,
    /// Partition key.
    pub partition_key: String,
    /// Of payload and own headers.
    pub bytes: u64,
    /// State.
    pub state: ParkedState,
    /// Class of the last refusal; `None` when it was never refused.
    pub reason: Option<String>,
    /// Words of the last refusal.
    pub error: Option<String>,
    /// How often it was refused.
    pub attempts: u32,
    /// When it was parked, or refused last.
    pub parked_at: DateTime<Utc>,
    /// When the event happened.
    pub occurred_at: DateTime<Utc>,
}

/// A parked record with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedContents {
    /// The record.
    pub record: ParkedRecord,
    /// The outbox that it comes from (`ce_source`).
    pub source: String,
    /// Kind, id and version of the changed aggregate.
    pub aggregate: (String, String, Option<i64>),
    /// Trace context.
    pub traceparent: Option<String>,
    /// The event's own headers; `None` when they are not readable.
    pub headers: Option<Vec<(String, Vec<u8>)>>,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// Parked records of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct ParkedCount {
    /// The shard.
    pub shard: i16,
    /// Records that the broker refuses.
    pub refused: i64,
    /// Records behind them, or about to be published.
    pub waiting: i64,
    /// Keys of them all.
    pub keys: i64,
}

/// Who decides about parked records, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Name for the audit.
    pub by: &'a str,
    /// Reason for the audit.
    pub why: &'a str,
    /// Only tell what would be changed.
    pub dry_run: bool,
}

/// What an action has changed, or would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedChange {
    /// Records.
    pub records: u64,
    /// Keys of them.
    pub keys: u64,
}

/// An action or a look that failed; nothing was changed.
#[derive(Debug, Error)]
pub enum ParkedError {
    /// The audit needs to know who and why.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A stored value is not one that this program writes.
    #[error("column state of outbox.parked, row {id}, holds {found:?}")]
    Unreadable {
        /// The row.
        id: i64,
        /// What it holds.
        found: String,
    },
    /// The database failed.
    #[error("parked records cannot be reached")]
    Database(#[from] sqlx::Error),
}

/// The first records that match, key by key, in order.
///
/// # Errors
/// See [`ParkedError`].
pub async fn list(
    connection: &mut PgConnection,
    filter: &ParkedFilter,
    limit: u32,
) -> Result<Vec<ParkedRecord>, ParkedError> {
    list_parked(connection, filter, i64::from(limit)).await?.into_iter().map(ParkedRecord::read).collect()
}

/// One record with what is in it.
///
/// # Errors
/// See [`ParkedError`].
pub async fn find(connection: &mut PgConnection, id: i64) -> Result<Option<ParkedContents>, ParkedError> {
    let Some((row, event)) = find_parked(connection, id).await? else { return Ok(None) };
    let headers = {
        let mut headers = Vec::new();
        let stored = event.headers.as_deref().unwrap_or_default();
        decode_into(stored, &mut headers)
            .ok()
            .map(|()| headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect())
    };
    Ok(Some(ParkedContents {
        record: ParkedRecord::read(row)?,
        source: source_of(event.history),
        aggregate: (event.aggregate_type, event.aggregate_id, event.aggregate_version),
        traceparent: event.traceparent,
        headers,
        payload: event.payload,
    }))
}

/// How much is parked, by shard; shards without parked records are left out.
///
/// # Errors
/// See [`ParkedError`].
pub async fn count(connection: &mut PgConnection) -> Result<Vec<ParkedCount>, ParkedError> {
    Ok(count_parked(connection).await?)
}

/// Lets the refused records that match be published after all: each key is published in order, from its first record on,
/// once none of its records is refused any more. A record that is refused again is parked again.
///
/// # Errors
/// See [`ParkedError`].
pub async fn unpark(
    connection: &mut PgConnection,
    filter: &ParkedFilter,
    decision: &Decision<'_>,
) -> Result<ParkedChange, ParkedError> {
    change(connection, ParkedAction::Unpark, filter, decision).await
}

/// Gives the records that match up for ever. When none of a key's records is refused any more, the others are published.
///
/// A waiting record may be on its way to the broker at this moment, and arrive although it is discarded.
///
/// # Errors
/// See [`ParkedError`].
pub async fn discard(
    connection: &mut PgConnection,
    filter: &ParkedFilter,
    decision: &Decision<'_>,
) -> Result<ParkedChange, ParkedError> {
    change(connection, ParkedAction::Discard, filter, decision).await
}

async fn change(
    connection: &mut PgConnection,
    action: ParkedAction,
    filter: &ParkedFilter,
    decision: &Decision<'_>,
) -> Result<ParkedChange, ParkedError> {
    for (name, text) in [("name", decision.by), ("reason", decision.why)] {
        if text.trim().is_empty() {
            return Err(ParkedError::Empty(name));
        }
    }
    let (records, keys) = change_parked(connection, action, filter, decision).await?;
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(ParkedChange { records: count(records), keys: count(keys) })
}

impl ParkedRecord {
    fn read(row: ParkedRow) -> Result<Self, ParkedError> {
        let state = match row.state.as_str() {
            "refused" => ParkedState::Refused,
            "waiting" => ParkedState::Waiting,
            _ => return Err(ParkedError::Unreadable { id: row.id, found: row.state }),
        };
        Ok(Self {
            id: row.id,
            shard: row.shard,
            event_id: row.event_id,
            event_type: row.event_type,
            topic: row.topic,
            partition_key: row.partition_key,
            bytes: u64::try_from(row.bytes).unwrap_or_default(),
            state,
            reason: row.reason,
            error: row.error,
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            parked_at: row.parked_at,
            occurred_at: row.occurred_at,
        })
    }
}
