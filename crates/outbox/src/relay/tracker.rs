//! Counts acknowledgements as the producer's thread reports them, and wakes who waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_client::{DeliveryError, DeliverySink};
use tokio::sync::Notify;

use super::prefix::{Advance, InFlightLimits, Prefix, Progress};
use crate::metrics;

/// The batches of one producer.
#[derive(Debug)]
pub(crate) struct Tracker {
    limits: InFlightLimits,
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
    pub(crate) fn new(limits: InFlightLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
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
    pub(crate) fn seal(&self, batch: usize, events: usize, bytes: usize, progress: Progress) {
        let moved = self.lock().prefix.seal(batch, events, bytes, progress);
        self.wake(moved);
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
            if let Some(failure) = self.lock().failure.clone() {
                return failure;
            }
            failed.await;
        }
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

    fn wake(&self, moved: bool) {
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
            Ok(()) => {
                let moved = self.0.lock().prefix.acknowledged(batch);
                self.0.wake(moved);
            }
            // The relay itself has thrown the producer away.
            Err(DeliveryError::Dropped) => {}
            Err(error) => {
                metrics::delivery_failed(error.class());
                self.0.lock().failure.get_or_insert(error);
                self.0.failed.notify_one();
            }
        }
    }
}
