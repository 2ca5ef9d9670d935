//! Keeps what the relay owns: moves positions, renews leases, watches its share, prunes ticks. On its own connection, so
//! that reading goes on meanwhile.
//!
//! Invariants: a position is written only under the epoch with which the shard was claimed; a shard is handed back only
//! after the last position of the session is written.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kill::{is_sabotaged, kill_point};
use super::prefix::{Advance, Load, Progress};
use super::session::SessionError;
use super::settings::RelaySettings;
use super::share::{Step, decide_step};
use super::sharing::{load_view, look_again_after};
use super::status::RelayStatus;
use super::tracker::Tracker;
use crate::metrics::{self, LeaseChange};
use crate::store::parked::{ParkedEvent, begin_parking, commit_parking, load_revision};
use crate::store::relay::{leave_relays, renew_leases};
use crate::store::shard::{Epochs, release_shards, update_positions};
use crate::store::tick::prune_ticks;

/// A position that only passed empty windows is written this seldom: each write is a transaction and makes the next
/// window, so writing at once would never end.
const EMPTY_INTERVAL: Duration = Duration::from_secs(1);
/// A lease is renewed this often within its length.
const RENEWALS_PER_LEASE: u32 = 3;
/// How often it is looked whether an operator has changed what is parked.
const PARKED_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the shards of one session.
pub(crate) struct Keeper {
    pub(crate) connection: PgConnection,
    pub(crate) settings: Arc<RelaySettings>,
    pub(crate) status: Arc<RelayStatus>,
    pub(crate) tracker: Arc<Tracker>,
    /// Epoch by shard.
    pub(crate) epochs: BTreeMap<i16, i64>,
    /// When the leases were last known to be prolonged.
    pub(crate) renewed_at: Instant,
    /// What [`load_revision`] said before the parked rows were looked at.
    pub(crate) parked_revision: i64,
    /// When the share is looked at next.
    pub(crate) look_due: Instant,
    /// Cancelled by the keeper when shards are to be claimed or handed back, or parked records may have to be released.
    pub(crate) rebalance: CancellationToken,
    /// Ends the keeper after a last write.
    pub(crate) finish: CancellationToken,
    /// Whether the relay leaves at the end, so that all shards are handed back.
    pub(crate) leave: CancellationToken,
}

/// What is published and not yet written as a position.
struct Pending {
    progress: Vec<Progress>,
    events: usize,
    /// To be parked with the progress.
    parked: Vec<ParkedEvent>,
    since: Instant,
    written_at: Instant,
}

impl Keeper {
    /// Works until it is told to finish; an error means that everything in flight must be dropped.
    pub(crate) async fn run(mut self) -> Result<(), SessionError> {
        let now = Instant::now();
        let mut pending =
            Pending { progress: Vec::new(), events: 0, parked: Vec::new(), since: now, written_at: now };
        let renewal_interval = self.settings.lease / RENEWALS_PER_LEASE;
        let mut parked_due = now + PARKED_INTERVAL;
        loop {
            let renewal_due = self.renewed_at + renewal_interval;
            let duty_due = renewal_due.min(self.look_due).min(parked_due);
            let wake = pending.due(self.settings.position_interval).map_or(duty_due, |due| due.min(duty_due));
            let finishing = tokio::select! {
                () = self.tracker.moved() => false,
                () = tokio::time::sleep_until(wake) => false,
                () = self.finish.cancelled() => true,
            };
            self.absorb(&mut pending);
            let now = Instant::now();
            if finishing || pending.due(self.settings.position_interval).is_some_and(|due| due <= now) {
                self.write(&mut pending).await?;
            }
            if finishing {
                return if self.leave.is_cancelled() { self.leave().await } else { self.hand_back().await };
            }
            if renewal_due <= now {
                self.renew().await?;
            }
            if self.look_due <= now {
                self.look().await?;
            }
            if parked_due <= now {
                self.look_at_parked().await?;
                parked_due = now + PARKED_INTERVAL;
            }
        }
    }

    fn absorb(&self, pending: &mut Pending) {
        let (advance, in_flight) = self.tracker.take_advance();
        self.status.set_in_flight(in_flight);
        self.status.add_published(advance.events);
        if advance.events > 0 {
            metrics::published(advance.events, advance.batches);
        }
        for taken_at in advance.progress.iter().filter_map(|progress| progress.taken_at) {
            self.status.published_until(taken_at);
        }
        pending.add(advance);
    }

    async fn write(&mut self, pending: &mut Pending) -> Result<(), SessionError> {
        if pending.progress.is_empty() {
            return Ok(());
        }
        let lease_end = self.renewed_at + self.settings.lease;
        if pending.events > 0 {
            kill_point("relay.after_ack_before_position");
        }
        // In the transaction of the positions that pass them: neither lost nor both parked and still to come.
        if !pending.parked.is_empty() {
            within_lease(lease_end, begin_parking(&mut self.connection, &pending.parked)).await?;
        }
        for progress in &pending.progress {
            let owned = self.owned(&progress.shards);
            let position = progress.position.at.to_string();
            let partial =
                progress.position.partial.as_ref().map(|partial| (partial.end.to_string(), partial.last_id));
            let window = partial.as_ref().map(|(end, last_id)| (end.as_str(), *last_id));
            let update = update_positions(&mut self.connection, &owned, &position, window);
            let moved = within_lease(lease_end, update).await?;
            check_owned(moved, owned.shards.len())?;
            metrics::position_written();
        }
        if !pending.parked.is_empty() {
            kill_point("relay.before_parked");
            within_lease(lease_end, commit_parking(&mut self.connection)).await?;
            kill_point("relay.after_parked");
            self.parked(&pending.parked);
        }
        if !self.tracker.has_suspects() {
            self.status.works();
        }
        if pending.events > 0 {
            kill_point("relay.after_position");
        }
        pending.written();
        Ok(())
    }

    fn parked(&self, parked: &[ParkedEvent]) {
        self.tracker.parked_written(Load::of(parked));
        let mut waiting = 0;
        for ParkedEvent { event, refused } in parked {
            let Some(refused) = refused else {
                waiting += 1;
                continue;
            };
            tracing::warn!(
                event.id = event.id, event.event_id = %event.event_id, topic = event.topic,
                reason = refused.reason, error = refused.error,
                "a record is refused for good: it is parked, and later ones of its key wait"
            );
            metrics::parked_refused(refused.reason);
        }
        metrics::parked_waiting(waiting);
        self.status.add_parked(parked.len() - waiting, waiting);
    }

    async fn look_at_parked(&mut self) -> Result<(), SessionError> {
        let shards = self.all_owned().shards;
        let lease_end = self.renewed_at + self.settings.lease;
        let revision = within_lease(lease_end, load_revision(&mut self.connection, &shards)).await?;
        if self.parked_revision != revision {
            self.rebalance.cancel();
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), SessionError> {
        let owned = self.all_owned();
        let lease_end = self.lease_end();
        // Counted from before the statement: the database's clock cannot be ahead of this.
        let asked_at = Instant::now();
        let renew = renew_leases(&mut self.connection, &self.settings.owner, &owned, self.settings.lease);
        check_owned(within_lease(lease_end, renew).await?, owned.shards.len())?;
        self.renewed_at = asked_at;
        let lease_end = self.lease_end();
        within_lease(lease_end, prune_ticks(&mut self.connection)).await?;
        Ok(())
    }

    /// Ends the session when the share is not right.
    async fn look(&mut self) -> Result<(), SessionError> {
        let step = self.decide().await?;
        self.look_due = Instant::now() + look_again_after(step, self.settings.lease);
        if matches!(step, Step::Claim(_) | Step::HandBack(_)) {
            self.rebalance.cancel();
        }
        Ok(())
    }

    async fn decide(&mut self) -> Result<Step, SessionError> {
        let lease_end = self.lease_end();
        let view = within_lease(lease_end, load_view(&mut self.connection, &self.settings.owner)).await?;
        self.status.set_members(view.members.len());
        Ok(decide_step(&view, &self.settings.owner, self.epochs.len()))
    }

    /// Hands back what is above the share. Nothing of it is in flight any more, unless the broker is away.
    async fn hand_back(&mut self) -> Result<(), SessionError> {
        match self.decide().await? {
            Step::HandBack(surplus) => {
                let surplus = self.epochs.keys().rev().take(surplus).copied().collect::<Vec<_>>();
                self.release(&surplus).await
            }
            Step::Rest | Step::Wait | Step::Claim(_) => Ok(()),
        }
    }

    /// Leaves the other relays: they need wait neither for the leases nor for this one's life to run out.
    async fn leave(&mut self) -> Result<(), SessionError> {
        let all = self.all_owned();
        self.release(&all.shards).await?;
        let lease_end = self.lease_end();
        within_lease(lease_end, leave_relays(&mut self.connection, &self.settings.owner)).await
    }

    async fn release(&mut self, shards: &[i16]) -> Result<(), SessionError> {
        let (released, lease_end) = (self.owned(shards), self.lease_end());
        within_lease(lease_end, release_shards(&mut self.connection, &released)).await?;
        metrics::leases_changed(LeaseChange::Released, released.shards.len());
        Ok(())
    }

    fn lease_end(&self) -> Instant {
        self.renewed_at + self.settings.lease
    }

    fn owned(&self, shards: &[i16]) -> Epochs {
        let known = shards.iter().filter_map(|shard| Some((*shard, *self.epochs.get(shard)?)));
        let (shards, epochs) = known.unzip();
        Epochs { shards, epochs }
    }

    fn all_owned(&self) -> Epochs {
        let (shards, epochs) = self.epochs.iter().map(|(shard, epoch)| (*shard, *epoch)).unzip();
        Epochs { shards, epochs }
    }
}

impl Pending {
    fn add(&mut self, advance: Advance) {
        if self.progress.is_empty() && !advance.progress.is_empty() {
            self.since = Instant::now();
        }
        self.events += advance.events;
        self.parked.extend(advance.parked);
        for progress in advance.progress {
            match self.progress.last_mut().filter(|last| last.shards == progress.shards) {
                Some(last) => {
                    let taken_at = progress.taken_at.or(last.taken_at);
                    *last = Progress { taken_at, ..progress };
                }
                None => self.progress.push(progress),
            }
        }
    }

    /// When the position is to be written; `None` while there is nothing to write.
    fn due(&self, position_interval: Duration) -> Option<Instant> {
        if self.progress.is_empty() {
            None
        } else if self.events > 0 || !self.parked.is_empty() {
            Some(self.written_at + position_interval)
        } else {
            Some(self.since + EMPTY_INTERVAL)
        }
    }

    fn written(&mut self) {
        self.progress.clear();
        self.events = 0;
        self.parked.clear();
        self.written_at = Instant::now();
    }
}

/// Waits for the database only as long as the leases last: behind that, another relay may own the shards.
async fn within_lease<T>(
    lease_end: Instant,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, SessionError> {
    if is_sabotaged("relay.no_epoch_check") {
        return statement.await.map_err(SessionError::Database);
    }
    match tokio::time::timeout_at(lease_end, statement).await {
        Ok(answer) => answer.map_err(SessionError::Database),
        Err(_) => Err(SessionError::LeaseExpired),
    }
}

/// Ends the session unless all shards are still owned.
pub(super) fn check_owned(rows: u64, shards: usize) -> Result<(), SessionError> {
    if usize::try_from(rows).ok() == Some(shards) {
        return Ok(());
    }
    metrics::leases_changed(LeaseChange::Lost, shards.saturating_sub(usize::try_from(rows).unwrap_or(0)));
    Err(SessionError::OwnershipLost { owned: rows, shards })
}
