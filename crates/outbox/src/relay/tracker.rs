//! Counts acknowledgements as the producer's thread reports them, and wakes who waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_client::{DeliveryError, DeliverySink, Refusal, Trouble};
use tokio::sync::Notify;
use uuid::Uuid;

use super::caution::SharedCaution;
use super::prefix::{Advance, Contents, InFlightLimits, Load, Prefix, Progress};
use crate::headers::EVENT_ID;
use crate::metrics;

/// The batches of one producer.
#[derive(Debug)]
pub(crate) struct Tracker {
    limits: InFlightLimits,
    caution: SharedCaution,
    state: Mutex<State>,
    /// For the keeper: the prefix has moved.
    moved: Notify,
    /// For the reader: the prefix has moved.
    room: Notify,
    /// For the session: a record was refused.
    failed: Notify,
}

#[derive(Debug, Default)]
struct State {
    prefix: Prefix,
    failure: Option<DeliveryError>,
}

impl Tracker {
    pub(crate) fn new(limits: InFlightLimits, caution: SharedCaution) -> Arc<Self> {
        Arc::new(Self {
            limits,
            caution,
            state: Mutex::default(),
            moved: Notify::new(),
            room: Notify::new(),
            failed: Notify::new(),
        })
    }

    /// Begins a batch of at most this size when there is room for it, and waits for room otherwise.
    pub(crate) async fn open(&self, events_max: usize, bytes_max: usize) -> usize {
        loop {
            let room = self.room.notified();
            {
                let mut state = self.lock();
                if state.prefix.has_room(events_max, bytes_max, self.limits) {
                    return state.prefix.open();
                }
            }
            room.await;
        }
    }

    /// As [`Self::open`], without taking the room.
    pub(crate) async fn wait_for_room(&self, events_max: usize, bytes_max: usize) {
        loop {
            let room = self.room.notified();
            if self.lock().prefix.has_room(events_max, bytes_max, self.limits) {
                return;
            }
            room.await;
        }
    }

    /// The batch has got all its records.
    pub(crate) fn seal(&self, batch: usize, contents: Contents, progress: Progress) {
        self.advance(|prefix| prefix.seal(batch, contents, progress));
    }

    /// So many records of the batch are stored by the broker.
    pub(crate) fn acknowledged(&self, batch: usize, records: usize) {
        self.advance(|prefix| prefix.acknowledged(batch, records));
    }

    /// Parked events are in the database.
    pub(crate) fn parked_written(&self, written: Load) {
        self.lock().prefix.parked_written(written);
        self.room.notify_one();
    }

    /// Waits until every parked event of the prefix is in the database.
    pub(crate) async fn all_parked_written(&self) {
        loop {
            let room = self.room.notified();
            if self.lock().prefix.has_written_parked() {
                return;
            }
            room.await;
        }
    }

    /// Whether some records of a failed session were not sent again since.
    pub(crate) fn has_suspects(&self) -> bool {
        self.caution.lock().has_suspects()
    }

    /// Waits until every batch is acknowledged.
    pub(crate) async fn drained(&self) {
        loop {
            let room = self.room.notified();
            if self.lock().prefix.is_empty() {
                return;
            }
            room.await;
        }
    }

    /// Waits until the prefix has moved.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Waits for a record that cannot be delivered.
    pub(crate) async fn failed(&self) -> DeliveryError {
        loop {
            let failed = self.failed.notified();
            if let Some(failure) = self.failure() {
                return failure;
            }
            failed.await;
        }
    }

    /// A record that could not be delivered.
    pub(crate) fn failure(&self) -> Option<DeliveryError> {
        self.lock().failure.clone()
    }

    /// Takes what was published since the last call, and tells how many events are in flight.
    pub(crate) fn take_advance(&self) -> (Advance, usize) {
        let mut state = self.lock();
        (state.prefix.take_advance(), state.prefix.events_in_flight())
    }

    /// Whether nothing is sent and not yet acknowledged, nor acknowledged and not yet taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().prefix.is_empty()
    }

    fn suspect(&self, error: &DeliveryError) {
        let event_id = error
            .record()
            .and_then(|record| record.header(EVENT_ID))
            .and_then(|value| Uuid::try_parse_ascii(value).ok());
        if let Some(event_id) = event_id {
            let was_too_large = matches!(error, DeliveryError::Refused { refusal: Refusal::TooLarge, .. });
            self.caution.lock().suspect(event_id, was_too_large);
        }
    }

    /// Keeps the first failure; what a record says is worth more than that the producer has ended over it.
    fn fail(&self, error: DeliveryError) {
        let mut state = self.lock();
        if state.failure.as_ref().is_none_or(|known| known.record().is_none() && error.record().is_some()) {
            state.failure = Some(error);
        }
        drop(state);
        self.failed.notify_one();
    }

    /// Does what may move the prefix, and wakes who waits for that.
    fn advance(&self, change: impl FnOnce(&mut Prefix) -> bool) {
        let mut state = self.lock();
        let moved = change(&mut state.prefix);
        let begun_at = state.prefix.take_begun_at();
        drop(state);
        if let Some(begun_at) = begun_at {
            metrics::acknowledged(begun_at.elapsed());
        }
        if moved {
            self.moved.notify_one();
            self.room.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the producer reports to.
#[derive(Debug)]
pub(crate) struct TrackerSink(pub(crate) Arc<Tracker>);

impl DeliverySink for TrackerSink {
    fn delivered(&self, batch: usize, outcome: Result<(), DeliveryError>) {
        match outcome {
            Ok(()) => self.0.acknowledged(batch, 1),
            // The relay itself has thrown the producer away.
            Err(DeliveryError::Dropped) => {}
            Err(error) => {
                metrics::delivery_failed(error.class());
                self.0.suspect(&error);
                self.0.fail(error);
            }
        }
    }

    fn troubled(&self, trouble: Trouble) {
        metrics::troubled(trouble.name());
    }
}
