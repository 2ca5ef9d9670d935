//! Publishes parked records whose keys are held up no longer: at the begin of a session, before any window is read.
//!
//! Invariant: a parked record is deleted only after the broker has stored it, and only by the owner of its shard; no later
//! record of its key is sent before.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::careful::{Careful, Outcome, Outcomes};
use super::keeper::check_owned;
use super::kill::kill_point;
use super::parking::Parking;
use super::reader::Surroundings;
use super::session::SessionError;
use crate::metrics;
use crate::store::parked::{Released, ReleasedUntil, load_releasable, settle_released};
use crate::store::shard::Epochs;
use crate::store::window::WholeEvent;

/// Pages of one session: other keys wait meanwhile. What is left stays parked and has its turn soon.
const PAGES_MAX: usize = 100;

/// Publishes what can be released; answers whether some may be left.
pub(super) async fn release(
    connection: &mut PgConnection,
    careful: &mut Careful,
    around: &Surroundings<'_>,
    epochs: &BTreeMap<i16, i64>,
) -> Result<bool, SessionError> {
    let shards: Vec<i16> = epochs.keys().copied().collect();
    let bytes_max = i64::try_from(around.settings.batch_bytes_max()).unwrap_or(i64::MAX);
    let mut after = ReleasedUntil::BEGIN;
    // Only keys of records that are refused again in here; they are parked already, so there is no limit to keep.
    let mut parking = Parking::new(usize::MAX, Vec::new());
    for _ in 0..PAGES_MAX {
        let page = load_releasable(connection, &shards, after, bytes_max);
        let page = page.await.map_err(SessionError::Database)?;
        let Some(last) = page.last() else { return Ok(false) };
        after = ReleasedUntil { shard: last.shard, id: last.id };
        kill_point("relay.before_release");
        let published = around.stop.run_until_cancelled(careful.publish(&page, &mut parking));
        let Some(Outcomes { known, error }) = published.await else { return Ok(true) };
        kill_point("relay.before_released");
        settle(connection, epochs, &page, &known).await?;
        kill_point("relay.after_released");
        around.resolve(&page, &known);
        report(around, &page, &known);
        if let Some(error) = error {
            return Err(error);
        }
    }
    Ok(true)
}

async fn settle(
    connection: &mut PgConnection,
    epochs: &BTreeMap<i16, i64>,
    page: &[WholeEvent],
    outcomes: &[Outcome],
) -> Result<(), SessionError> {
    let mut released = Released::default();
    let mut owned: BTreeMap<i16, i64> = BTreeMap::new();
    for (event, outcome) in page.iter().zip(outcomes) {
        match outcome {
            Outcome::Published => released.published.push((event.shard, event.id)),
            Outcome::Refused(refused) => released.refused.push((event.shard, event.id, refused)),
            Outcome::Waiting => continue,
        }
        owned.extend(epochs.get_key_value(&event.shard));
    }
    let (shards, epochs) = owned.into_iter().unzip();
    let owned = Epochs { shards, epochs };
    let still_owned = settle_released(connection, &owned, &released).await.map_err(SessionError::Database)?;
    check_owned(still_owned, owned.shards.len())
}

fn report(around: &Surroundings<'_>, page: &[WholeEvent], outcomes: &[Outcome]) {
    let published = outcomes.iter().filter(|outcome| **outcome == Outcome::Published).count();
    metrics::released(published);
    around.status.add_published(published);
    tracing::info!(published, "parked records are released");
    for (event, outcome) in page.iter().zip(outcomes) {
        if let Outcome::Refused(refused) = outcome {
            metrics::parked_refused(refused.reason);
            tracing::warn!(
                event.id = event.id, event.event_id = %event.event_id, topic = event.topic,
                reason = refused.reason, error = refused.error,
                "a parked record is refused again: it stays parked, and later ones of its key wait"
            );
        }
    }
}
