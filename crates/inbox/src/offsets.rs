//! The way out for operators when a partition is stopped: look at stored offsets, move one, or go on. Audited.
//!
//! Moving an offset under a running streamer is safe: its next transaction finds another offset than it expects, writes
//! nothing, and reads on from the new place. What was handled before stays handled, so reading again counts nothing twice.

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};
use thiserror::Error;
use uuid::Uuid;

use crate::store::offsets as store;

/// A stored offset.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredOffset {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Full topic name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Reading goes on here.
    pub next_offset: i64,
    /// The topic whose offset it is; `None` until the partition is next assigned.
    pub topic_id: Option<Uuid>,
    /// Why it is not read.
    pub halted: Option<String>,
    /// The process that moved it last.
    pub owner: Option<String>,
    /// When that was.
    pub updated_at: DateTime<Utc>,
}

/// Which offset to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetTarget {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Full topic name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetChange {
    /// Go on reading where the partition was halted.
    Resume,
    /// Go on reading here, in whatever topic has the name now.
    Set(i64),
}

/// Who changes an offset, and why; both are kept in `inbox.offset_audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// A name.
    pub by: String,
    /// A reason.
    pub reason: String,
}

/// Why nothing was changed.
#[derive(Debug, Error)]
pub enum OffsetError {
    /// The group never read this partition.
    #[error("consumer group {} has no stored offset for {}[{}]", .0.consumer_group, .0.topic, .0.partition)]
    Unknown(OffsetTarget),
    /// Offsets begin at 0.
    #[error("{0} is no offset")]
    Negative(i64),
    /// Nobody would know why.
    #[error("a change needs the name of who makes it and a reason")]
    Anonymous,
    /// The database failed.
    #[error("offsets cannot be changed")]
    Database(#[from] sqlx::Error),
}

/// Stored offsets of all groups, or of one.
///
/// # Errors
/// The database's.
pub async fn list_offsets(
    connection: &mut PgConnection,
    consumer_group: Option<&str>,
) -> Result<Vec<StoredOffset>, sqlx::Error> {
    store::list_offsets(connection, consumer_group).await
}

/// Changes an offset and clears why it was halted; answers what it was before and what it is now. With `dry_run` nothing
/// stays changed, and nobody need be named.
///
/// Offsets that are passed over count as skipped, those that are gone back to count again as they are read, so the sums
/// of promise P8 hold before and after.
///
/// # Errors
/// See [`OffsetError`].
pub async fn change_offset(
    connection: &mut PgConnection,
    target: &OffsetTarget,
    change: OffsetChange,
    operator: &Operator,
    dry_run: bool,
) -> Result<(StoredOffset, StoredOffset), OffsetError> {
    if !dry_run && (operator.by.trim().is_empty() || operator.reason.trim().is_empty()) {
        return Err(OffsetError::Anonymous);
    }
    let mut tx = connection.begin().await?;
    let unknown = || OffsetError::Unknown(target.clone());
    let before = store::lock_offset(&mut tx, target).await?.ok_or_else(unknown)?;
    let (action, offset) = match change {
        OffsetChange::Resume => ("resume", before.next_offset),
        OffsetChange::Set(offset) if offset < 0 => return Err(OffsetError::Negative(offset)),
        OffsetChange::Set(offset) => ("set", offset),
    };
    let forget_topic = action == "set";
    let is_same = before.halted.is_none()
        && before.next_offset == offset
        && !(forget_topic && before.topic_id.is_some());
    if is_same {
        return Ok((before.clone(), before));
    }
    store::update_offset(&mut tx, target, offset, forget_topic).await?;
    store::insert_audit(&mut tx, &before, offset, action, operator).await?;
    let after = store::lock_offset(&mut tx, target).await?.ok_or_else(unknown)?;
    if dry_run {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok((before, after))
}
