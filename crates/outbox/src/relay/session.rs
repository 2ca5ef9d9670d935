//! One stretch of work: from claiming shards to the first failure, or to the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_client::{DeliveryError, Producer, ProducerError, ProducerSettings, PublishError, SendError};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::careful::Careful;
use super::caution::SharedCaution;
use super::guard::{Refusal, guard};
use super::keeper::Keeper;
use super::parking::{Parking, ParkingFull};
use super::reader::{Reader, Surroundings};
use super::release::release;
use super::settings::RelaySettings;
use super::share::Step;
use super::sharing::{Claim, look_again_after};
use super::status::RelayStatus;
use super::tracker::{Tracker, TrackerSink};
use super::window::{Groups, Partial, Position, UnreadableSnapshot};
use crate::headers::UnreadableHeaders;
use crate::metrics;
use crate::nudge::Nudge;
use crate::store::parked::{BlockedKey, load_blocked_keys, load_revision};
use crate::store::shard::{ClaimedShard, Epochs};
use crate::store::window::{connect_keeper, connect_reader};

/// Why a session has ended early. Whatever it is, the next one begins at the stored positions.
#[derive(Debug, Error)]
pub(crate) enum SessionError {
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    #[error("the database did not answer: {0}")]
    Silent(&'static str),
    #[error("the leases ran out before they could be renewed")]
    LeaseExpired,
    #[error("{owned} of {shards} shards are still owned")]
    OwnershipLost { owned: u64, shards: usize },
    #[error("event {id} was not accepted by the producer")]
    Send {
        id: i64,
        #[source]
        error: SendError,
    },
    #[error("a record was not delivered")]
    Delivery(#[source] DeliveryError),
    #[error("a record was not delivered though it was sent with caution")]
    Publish(#[source] PublishError),
    #[error("records of too many keys are refused")]
    ParkingFull(#[source] ParkingFull),
    #[error("event {id} in outbox.event has unreadable headers")]
    Headers {
        id: i64,
        #[source]
        error: UnreadableHeaders,
    },
    #[error("a position in outbox.shard is not readable")]
    Snapshot(#[source] UnreadableSnapshot),
    #[error("a background task has died")]
    Died(#[source] tokio::task::JoinError),
    #[error("the server cannot be used")]
    Refused(#[source] Refusal),
    #[error("the producer cannot be created")]
    Producer(#[source] ProducerError),
}

/// How a session has ended in peace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// It was told to stop.
    Stopped,
    /// Its share has changed, or parked records may have to be released.
    Rebalance,
}

/// What every session of a relay works with.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) settings: Arc<RelaySettings>,
    pub(crate) options: PgConnectOptions,
    pub(crate) nudge: Option<Nudge>,
    pub(crate) stop: CancellationToken,
    pub(crate) status: Arc<RelayStatus>,
    /// What the sessions before have learned.
    pub(crate) caution: SharedCaution,
    /// What it claimed last. Whether it still owns that, the epochs tell.
    pub(crate) held: Arc<Mutex<Epochs>>,
}

impl Relay {
    /// Claims its share of the shards and works until something ends it.
    pub(crate) async fn session(&self) -> Result<SessionEnd, SessionError> {
        let mut connection = connect_reader(&self.options).await.map_err(SessionError::Database)?;
        guard(&mut connection).await?;
        let Some(mut claim) = self.claim_share(&mut connection).await? else {
            return Ok(SessionEnd::Stopped);
        };
        let tracker = Tracker::new(self.settings.in_flight_limits(), self.caution.clone());
        let producer = Producer::new(&self.producer_settings(), TrackerSink(Arc::clone(&tracker)))
            .map_err(SessionError::Producer)?;
        let ended = loop {
            let ended = self.work(connection, claim, &tracker, &producer).await;
            // A producer that owes nothing serves the next share as well.
            if !matches!(ended, Ok(SessionEnd::Rebalance)) || !tracker.is_empty() {
                break ended;
            }
            match self.claim_again().await {
                Ok(Some(next)) => (connection, claim) = next,
                Ok(None) => break Ok(SessionEnd::Stopped),
                Err(error) => break Err(error),
            }
        };
        if producer.in_flight() > 0 {
            metrics::producer_reset();
        }
        // Dropping gives up what is in flight and blocks for a moment.
        let dropped = tokio::task::spawn_blocking(move || drop(producer)).await;
        dropped.map_err(SessionError::Died)?;
        ended
    }

    /// The producer's settings, with smaller requests when those before have proved too large.
    fn producer_settings(&self) -> ProducerSettings {
        let mut settings = self.settings.producer.clone();
        if let Some(bytes) = self.caution.lock().request_bytes_max() {
            settings.client.options.insert("batch.size".to_owned(), bytes.to_string());
        }
        settings
    }

    async fn work(
        &self,
        mut connection: PgConnection,
        claim: Claim,
        tracker: &Arc<Tracker>,
        producer: &Producer<TrackerSink>,
    ) -> Result<SessionEnd, SessionError> {
        let stop = self.stop.child_token();
        let finish = CancellationToken::new();
        let epochs: BTreeMap<_, _> = claim.shards.iter().map(|shard| (shard.shard, shard.epoch)).collect();
        let shards: Vec<i16> = epochs.keys().copied().collect();
        // Looked up before the parked rows are: what an operator changes behind this, the keeper notices.
        let revision = load_revision(&mut connection, &shards).await.map_err(SessionError::Database)?;
        let keeper = Keeper {
            connection: connect_keeper(&self.options).await.map_err(SessionError::Database)?,
            settings: Arc::clone(&self.settings),
            status: Arc::clone(&self.status),
            tracker: Arc::clone(tracker),
            epochs: epochs.clone(),
            renewed_at: claim.asked_at,
            parked_revision: revision,
            look_due: claim.asked_at + look_again_after(Step::Wait, self.settings.lease),
            rebalance: stop.clone(),
            finish: finish.clone(),
            leave: self.stop.clone(),
        };
        // A set, so that the task ends with this future, however that ends.
        let mut keeping = JoinSet::new();
        keeping.spawn(keeper.run());
        let around = Surroundings {
            settings: &self.settings,
            options: &self.options,
            producer,
            tracker,
            status: &self.status,
            nudge: self.nudge.as_ref(),
            caution: &self.caution,
            stop: &stop,
        };
        let groups = groups_of(claim.shards)?;
        let read_and_drain = async {
            self.read(around, connection, groups, &epochs).await?;
            // What is not acknowledged in time is sent again by the next owner.
            let _ = tokio::time::timeout(self.settings.shutdown_grace, tracker.drained()).await;
            finish.cancel();
            Ok::<(), SessionError>(())
        };
        tokio::select! {
            // That the producer has ended says less than the record over which it did.
            read = read_and_drain => read.map_err(|error| {
                tracker.failure().map_or(error, SessionError::Delivery)
            })?,
            kept = kept(&mut keeping) => return Err(kept.err().unwrap_or(SessionError::LeaseExpired)),
            failure = tracker.failed() => return Err(SessionError::Delivery(failure)),
        }
        kept(&mut keeping).await?;
        Ok(if self.stop.is_cancelled() { SessionEnd::Stopped } else { SessionEnd::Rebalance })
    }

    /// Releases what can be, then reads windows until it is stopped.
    async fn read(
        &self,
        around: Surroundings<'_>,
        mut connection: PgConnection,
        groups: Groups,
        epochs: &BTreeMap<i16, i64>,
    ) -> Result<(), SessionError> {
        let stop = around.stop;
        let mut careful = Careful::new(self.producer_settings(), self.caution.clone());
        let is_left = release(&mut connection, &mut careful, &around, epochs).await?;
        let shards: Vec<i16> = epochs.keys().copied().collect();
        let blocked = load_blocked_keys(&mut connection, &shards).await.map_err(SessionError::Database)?;
        let count = |of: fn(&BlockedKey) -> i64| {
            usize::try_from(blocked.iter().map(of).sum::<i64>()).unwrap_or_default()
        };
        around.status.set_parked(count(|key| key.refused), count(|key| key.waiting));
        let parking = Parking::new(self.settings.parked_keys_max, blocked);
        around.status.set_parked_keys(parking.keys());
        let mut reader = Reader::new(around, connection, groups, parking, careful);
        let rest_has_its_turn = async {
            if is_left && stop.run_until_cancelled(tokio::time::sleep(RELEASE_INTERVAL)).await.is_some() {
                stop.cancel();
            }
        };
        let ((), read) = tokio::join!(rest_has_its_turn, reader.run());
        read
    }
}

/// Between two rounds of releasing parked records other keys have their turn.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);

async fn kept(keeping: &mut JoinSet<Result<(), SessionError>>) -> Result<(), SessionError> {
    match keeping.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(died)) => Err(SessionError::Died(died)),
        None => Ok(()),
    }
}

fn groups_of(claimed: Vec<ClaimedShard>) -> Result<Groups, SessionError> {
    let mut positions = BTreeMap::new();
    for shard in claimed {
        let read = |text: &str| text.parse().map(Arc::new).map_err(SessionError::Snapshot);
        let partial = match (&shard.window_end, shard.window_last_id) {
            (Some(end), Some(last_id)) => Some(Partial { end: read(end)?, last_id }),
            _ => None,
        };
        positions.insert(shard.shard, Position { at: read(&shard.position)?, partial });
    }
    Ok(Groups::new(positions))
}
