//! Joins the living relays, and waits for a share of the shards.
//!
//! A relay looks at the others twice a second and acts on what it alone decides (`share`): nobody coordinates, and the
//! database's clock says who lives. A newcomer finds its share within a look of the others and one of its own.

use std::future::Future;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use super::session::{Relay, SessionError};
use super::share::{Member, Step, View, decide_step};
use crate::metrics::{self, LeaseChange};
use crate::store::relay::{join_relays, leave_relays, list_members};
use crate::store::shard::{ClaimedShard, Epochs, claim_shards, release_shards};
use crate::store::window::connect_reader;

/// How often a relay looks at the others while its share is right; within a short lease at least this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOKS_PER_LEASE: u32 = 10;
/// The same while it waits for shards that are about to become free.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// Life of a relay that owns nothing: several looks, so that one that dies while it waits is not waited for as long as
/// one that holds leases.
const WAITING_LIFE: Duration = Duration::from_secs(2);
/// Longest wait for the answer to a statement while nothing is owned.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shards that were claimed.
pub(super) struct Claim {
    pub(super) shards: Vec<ClaimedShard>,
    /// When they were asked for: the leases end no sooner than a lease later.
    pub(super) asked_at: Instant,
}

impl Relay {
    /// Joins the living relays and waits for a share; `None` when the relay was told to stop and has left.
    pub(super) async fn claim_share(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<Claim>, SessionError> {
        let settings = &self.settings;
        let (owner, lease) = (settings.owner.as_str(), settings.lease);
        loop {
            answer(join_relays(connection, owner, lease.min(WAITING_LIFE))).await?;
            let view = answer(load_view(connection, owner)).await?;
            self.status.set_members(view.members.len());
            let step = decide_step(&view, owner, 0);
            if let Step::Claim(free_max) = step {
                let asked_at = Instant::now();
                let free_max = i64::try_from(free_max).unwrap_or(i64::MAX);
                let shards = answer(claim_shards(connection, owner, lease, free_max)).await?;
                if !shards.is_empty() {
                    self.claimed(&shards);
                    return Ok(Some(Claim { shards, asked_at }));
                }
            }
            self.status.connected(0);
            self.status.works();
            let pause = tokio::time::sleep(look_again_after(step, lease));
            if self.stop.run_until_cancelled(pause).await.is_none() {
                answer(leave_relays(connection, owner)).await?;
                return Ok(None);
            }
        }
    }

    /// As [`Self::claim_share`], on a new connection for reading.
    pub(super) async fn claim_again(&self) -> Result<Option<(PgConnection, Claim)>, SessionError> {
        let mut connection = connect_reader(&self.options).await.map_err(SessionError::Database)?;
        Ok(self.claim_share(&mut connection).await?.map(|claim| (connection, claim)))
    }

    /// Hands back whatever of its last claim it still owns, and leaves. Nothing of it may be in flight any more.
    pub(super) async fn hand_back_all(&self) -> Result<(), SessionError> {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        if held.shards.is_empty() {
            return Ok(());
        }
        let mut connection = connect_reader(&self.options).await.map_err(SessionError::Database)?;
        let released = answer(release_shards(&mut connection, &held)).await?;
        metrics::leases_changed(LeaseChange::Released, usize::try_from(released).unwrap_or(0));
        answer(leave_relays(&mut connection, &self.settings.owner)).await
    }

    fn claimed(&self, shards: &[ClaimedShard]) {
        let (numbers, epochs) = shards.iter().map(|shard| (shard.shard, shard.epoch)).unzip();
        let held = Epochs { shards: numbers, epochs };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.status.connected(shards.len());
        metrics::leases_changed(LeaseChange::Claimed, shards.len());
        let members = self.status.members();
        tracing::info!(owner = self.settings.owner, shards = shards.len(), members, "relay owns shards");
    }
}

/// What `owner` sees of the others now.
pub(super) async fn load_view(connection: &mut PgConnection, owner: &str) -> Result<View, sqlx::Error> {
    let count = |number: i64| usize::try_from(number).unwrap_or(0);
    let rows = list_members(connection, owner).await?;
    let claimable = rows.first().map_or(0, |row| count(row.claimable));
    let members =
        rows.into_iter().map(|row| Member { shards: count(row.shards), owner: row.owner }).collect();
    Ok(View { members, claimable })
}

/// How long a relay may wait before it looks again.
pub(super) fn look_again_after(step: Step, lease: Duration) -> Duration {
    let longest = LOOK_INTERVAL.min(lease / LOOKS_PER_LEASE);
    match step {
        Step::Rest => longest,
        Step::Wait | Step::Claim(_) | Step::HandBack(_) => longest.min(LOOK_SOON),
    }
}

async fn answer<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, SessionError> {
    match tokio::time::timeout(PATIENCE, statement).await {
        Ok(answer) => answer.map_err(SessionError::Database),
        Err(_) => Err(SessionError::Silent("a look at the other relays")),
    }
}
