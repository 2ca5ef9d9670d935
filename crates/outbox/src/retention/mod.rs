//! Gives back the space of what is published, and raises an alarm when too much is not.
//!
//! `outbox.event` is a ring of four segments, filled for an hour each. No row is deleted: a segment is truncated as a
//! whole, so that published events leave no dead rows and cost no vacuum.
//!
//! Invariant: a segment is truncated only when every committed row in it is visible in the position of its shard, and so
//! published. That is decided while an `access exclusive` lock on the segment is held, by a statement that starts
//! after the lock is: every transaction that wrote into the segment, prepared ones too, held a lock on it until its end, and
//! has ended; and one that comes later finds the segment empty and writes behind the truncation. The hour therefore decides
//! only when it is worth trying: a straggler, or a clock that was set back, loses nothing.
//!
//! `truncate` takes rows away from older snapshots too. No reader is harmed. The owner of a shard reads only what its stored
//! position, or one further on, does not see, and none of that is there to be taken. A relay that lost its shards may read
//! less than it would have, but can move no position. `outbox.unpublished` in an old snapshot shows at most fewer rows,
//! those that are published by now. On a crash, the truncation is never kept without the positions that allowed it, which
//! stand before it in the log, although they were not flushed on their own.
//!
//! A segment that is still needed when its turn comes again is kept, filled further, and reported. Deliberately absent:
//! any limit at which rows are given up.

mod alarm;
mod keeper;
mod ring;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::SEGMENTS;
use crate::store::segment::{Attempt, Need, load_need, truncate_segment};
use keeper::Keeper;
pub use ring::Phase;
pub(crate) use ring::place;
pub use settings::{RetentionSettings, RetentionSettingsError};

/// Longest time for one look at everything before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a segment that is due was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It holds rows that are not published.
    Unpublished,
    /// A transaction held it for longer than the lock may be waited for.
    Locked,
    /// Another process was truncating.
    Elsewhere,
    /// The positions cannot be trusted: the relay refuses this server too, and says why.
    Untrusted,
}

/// Truncates a segment now, whatever the hour, if all its rows are published; answers why it was kept, if it was.
///
/// # Errors
/// The database's failure.
///
/// # Panics
/// When there is no such segment.
pub async fn truncate_now(
    connection: &mut PgConnection,
    segment: i16,
    lock_timeout: Duration,
) -> Result<Option<Kept>, sqlx::Error> {
    assert!((0..SEGMENTS).contains(&segment), "segment {segment} is not one of the ring");
    // Most segments that must be kept are found so without making anybody wait.
    if let Some(reason) = decide_kept(load_need(connection, segment).await?) {
        return Ok(Some(reason));
    }
    Ok(match truncate_segment(connection, segment, lock_timeout).await? {
        Attempt::Truncated => None,
        Attempt::Locked => Some(Kept::Locked),
        Attempt::Elsewhere => Some(Kept::Elsewhere),
        Attempt::Kept(reason) => Some(reason),
    })
}

/// Why the positions forbid to truncate a segment; `None` when they allow it.
pub(crate) fn decide_kept(need: Need) -> Option<Kept> {
    if !need.is_trusted {
        Some(Kept::Untrusted)
    } else if need.is_unpublished {
        Some(Kept::Unpublished)
    } else {
        None
    }
}

/// What retention has to say, for readiness. Share it by `Arc`.
#[derive(Debug, Default)]
pub struct RetentionStatus {
    alarm: Mutex<Option<String>>,
}

impl RetentionStatus {
    /// Which limit of the backlog is exceeded, in words.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_alarm(&self, alarm: Option<String>) {
        *self.alarm.lock().unwrap_or_else(PoisonError::into_inner) = alarm;
    }
}

/// Looks at segments and backlog until it is stopped; a database that is away is waited for.
///
/// Any number of processes may run it: each looks, and one at a time truncates.
///
/// # Errors
/// Settings that cannot be used.
pub async fn run(
    settings: RetentionSettings,
    options: PgConnectOptions,
    stop: CancellationToken,
    status: Arc<RetentionStatus>,
) -> Result<(), RetentionSettingsError> {
    settings.check()?;
    let mut keeper = Keeper::new(settings, status);
    let mut connection = None;
    let mut is_failing = false;
    loop {
        let look = tokio::time::timeout(PATIENCE, keeper.connect_and_look(&mut connection, &options));
        let Some(looked) = stop.run_until_cancelled(look).await else { return Ok(()) };
        let failure = match looked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the database does not answer".to_owned()),
        };
        if let Some(error) = &failure {
            connection = None;
            // Once for each outage: the next attempts fail alike.
            if !is_failing {
                tracing::warn!(error, "outbox segments cannot be looked after; trying again");
            }
        }
        is_failing = failure.is_some();
        if stop.run_until_cancelled(tokio::time::sleep(settings.interval)).await.is_none() {
            return Ok(());
        }
    }
}
