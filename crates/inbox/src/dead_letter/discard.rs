//! Gives letters up: they stay, with who decided it and why, and are not redriven unless asked for by their state.

use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::action::{ActionError, ActionReport, Mandate, judge_discard};
use super::redrive::{Selection, preview};
use super::walk::Walk;
use crate::kill::kill_point;
use crate::metrics;
use crate::store::blocked::{lock_keys_of, release_keys_of};
use crate::store::letter_actions::{LetterAction, lock_states, record_action};

/// Letters of one transaction.
const CHUNK_LETTERS: u32 = 1_000;

/// Discards letters until all that matched at the begin are dealt with, `limit` is reached, or `stop`.
///
/// `progress` is told after each chunk, which is one transaction. What waits behind a letter has its effect as soon as a
/// consumer of the group comes to it; the event of the letter itself is remembered as handled then.
///
/// # Errors
/// See [`ActionError`].
pub async fn discard(
    connection: &mut PgConnection,
    selection: &Selection,
    mandate: &Mandate,
    stop: &CancellationToken,
    mut progress: impl FnMut(&ActionReport),
) -> Result<ActionReport, ActionError> {
    let mut walk = Walk::begin(connection, &selection.filter, u64::MAX).await?;
    let mut report = ActionReport { matched: walk.matched, ..ActionReport::default() };
    loop {
        let left = selection.limit.map_or(u64::MAX, |limit| limit.saturating_sub(report.done));
        report.is_stopped = stop.is_cancelled();
        if left == 0 || report.is_stopped {
            return Ok(report);
        }
        let letters_max = u32::try_from(left).map_or(CHUNK_LETTERS, |left| CHUNK_LETTERS.min(left));
        let chunk = walk.next(connection, letters_max).await?;
        if chunk.is_empty() {
            return Ok(report);
        }
        let ids: Vec<Uuid> = chunk.iter().map(|candidate| candidate.state.id).collect();
        let mut tx = connection.begin().await?;
        lock_keys_of(&mut tx, &ids).await?;
        let mut free = Vec::new();
        for state in lock_states(&mut tx, &ids).await? {
            match judge_discard(&state) {
                Some(obstacle) => report.leave(state.id, obstacle),
                None => free.push(state.id),
            }
        }
        let changed = record_action(&mut tx, &free, LetterAction::Discard, mandate).await?;
        if usize::try_from(changed) != Ok(free.len()) {
            return Err(ActionError::Rows { changed, locked: free.len() });
        }
        release_keys_of(&mut tx, &free).await?;
        kill_point("inbox.discard_before_release");
        tx.commit().await?;
        report.done += changed;
        for candidate in chunk.iter().filter(|candidate| free.contains(&candidate.state.id)) {
            metrics::discarded(&candidate.place.consumer_group);
        }
        progress(&report);
    }
}

/// What [`discard`] would do; changes nothing.
///
/// # Errors
/// The database's failure.
pub async fn preview_discard(
    connection: &mut PgConnection,
    selection: &Selection,
) -> Result<ActionReport, ActionError> {
    preview(connection, selection, judge_discard).await
}
