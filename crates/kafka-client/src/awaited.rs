//! A producer for those who wait for the answer: dead letters, tools, tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::producer::{
    DeliveryError, DeliverySink, Gap, OutgoingRecord, Producer, ProducerError, ProducerSettings, SendError,
};

/// Pause before a record is offered again to a full queue.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// Records that were not all stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The client did not accept a record; earlier ones may be stored.
    #[error("record was not accepted")]
    Send(#[source] SendError),
    /// A record was accepted and not stored.
    #[error("record was not stored")]
    Delivery(#[source] DeliveryError),
}

/// Sends records and waits until all are stored.
///
/// It waits over an outage of any length: bound it by a timeout of the caller's. A call that is dropped half way
/// leaves its records queued; they may still be stored.
#[derive(Debug)]
pub struct AwaitedProducer {
    producer: Producer<Arc<Waiting>>,
    waiting: Arc<Waiting>,
}

impl AwaitedProducer {
    /// Creates the client; does not wait for a broker.
    ///
    /// # Errors
    /// Settings that weaken delivery, or that the client library refuses.
    pub fn new(settings: &ProducerSettings) -> Result<Self, ProducerError> {
        let waiting = Arc::new(Waiting::default());
        // Calls are independent of each other: a refused record fails its own call only.
        let producer = Producer::with_gap(settings, Arc::clone(&waiting), Gap::IsFine)?;
        Ok(Self { producer, waiting })
    }

    /// Answers when all records are stored by all in-sync replicas; records of one partition in the given order.
    ///
    /// # Errors
    /// The first record that was refused; others of the call may be stored.
    pub async fn send_all(&self, records: &[OutgoingRecord<'_>]) -> Result<(), PublishError> {
        if records.is_empty() {
            return Ok(());
        }
        let (call, answer) = self.waiting.open(records.len());
        for (index, record) in records.iter().enumerate() {
            if let Err(error) = self.send_one(record, call).await {
                self.waiting.withdraw(call, records.len() - index);
                return Err(PublishError::Send(error));
            }
        }
        match answer.await {
            Ok(outcome) => outcome.map_err(PublishError::Delivery),
            Err(_) => Err(PublishError::Delivery(DeliveryError::Dropped)),
        }
    }

    async fn send_one(&self, record: &OutgoingRecord<'_>, call: usize) -> Result<(), SendError> {
        loop {
            match self.producer.try_send(record, call) {
                Err(SendError::QueueFull) => tokio::time::sleep(QUEUE_PAUSE).await,
                outcome => return outcome,
            }
        }
    }
}

/// Calls that wait for acknowledgements.
#[derive(Debug, Default)]
struct Waiting {
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    last: usize,
    open: HashMap<usize, Call>,
}

#[derive(Debug)]
struct Call {
    unanswered: usize,
    outcome: Result<(), DeliveryError>,
    answer: oneshot::Sender<Result<(), DeliveryError>>,
}

impl Waiting {
    fn open(&self, unanswered: usize) -> (usize, oneshot::Receiver<Result<(), DeliveryError>>) {
        let (answer, receiver) = oneshot::channel();
        let mut calls = self.lock();
        calls.last += 1;
        let number = calls.last;
        calls.open.insert(number, Call { unanswered, outcome: Ok(()), answer });
        (number, receiver)
    }

    /// `count` records of the call were never accepted.
    fn withdraw(&self, number: usize, count: usize) {
        self.answered(number, count, Ok(()));
    }

    fn answered(&self, number: usize, count: usize, outcome: Result<(), DeliveryError>) {
        let mut calls = self.lock();
        let Some(call) = calls.open.get_mut(&number) else { return };
        call.unanswered = call.unanswered.saturating_sub(count);
        if call.outcome.is_ok() {
            call.outcome = outcome;
        }
        if call.unanswered == 0
            && let Some(call) = calls.open.remove(&number)
        {
            // Whoever asked may have stopped waiting.
            let _ = call.answer.send(call.outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeliverySink for Arc<Waiting> {
    fn delivered(&self, batch: usize, outcome: Result<(), DeliveryError>) {
        self.answered(batch, 1, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_answered_after_its_last_record_with_its_first_error() {
        let waiting = Waiting::default();
        let (call, mut answer) = waiting.open(3);
        waiting.answered(call, 1, Ok(()));
        waiting.answered(call, 1, Err(DeliveryError::Refused("first".to_owned())));
        assert!(answer.try_recv().is_err());
        waiting.answered(call, 1, Err(DeliveryError::Refused("second".to_owned())));
        assert_eq!(answer.try_recv(), Ok(Err(DeliveryError::Refused("first".to_owned()))));
        assert!(waiting.lock().open.is_empty());
    }
}
