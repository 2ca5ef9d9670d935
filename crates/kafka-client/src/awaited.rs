//! A producer for those who wait for the answer: dead letters, tools, tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::outcome::{DeliveryError, SendError};
use crate::producer::{DeliverySink, Gap, OutgoingRecord, Producer, ProducerError, ProducerSettings};

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
        // Calls are independent of each other: a refused record fails its own call only.
        Self::with_gap(settings, Gap::IsFine)
    }

    /// As [`Self::new`], but a record that is refused ends the producer: none that was handed over later is stored.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn gapless(settings: &ProducerSettings) -> Result<Self, ProducerError> {
        Self::with_gap(settings, Gap::EndsProducer)
    }

    fn with_gap(settings: &ProducerSettings, gap: Gap) -> Result<Self, ProducerError> {
        let waiting = Arc::new(Waiting::default());
        let producer = Producer::with_gap(settings, Arc::clone(&waiting), gap)?;
        Ok(Self { producer, waiting })
    }

    /// Begins a call whose records are handed over one by one.
    #[must_use]
    pub fn open(&self) -> OpenCall<'_> {
        let (number, answer) = self.waiting.open(1);
        OpenCall { producer: self, number, answer: Some(answer) }
    }

    /// Answers when all records are stored by all in-sync replicas; records of one partition in the given order.
    ///
    /// # Errors
    /// The first record that was refused; others of the call may be stored.
    pub async fn send_all(&self, records: &[OutgoingRecord<'_>]) -> Result<(), PublishError> {
        let call = self.open();
        for record in records {
            while let Err(error) = call.try_send(record) {
                if error != SendError::QueueFull {
                    return Err(PublishError::Send(error));
                }
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
        }
        call.stored().await
    }
}

/// A call of an [`AwaitedProducer`] to which records can still be added.
///
/// Dropping it gives up the answer, not the records that were handed over.
#[derive(Debug)]
pub struct OpenCall<'p> {
    producer: &'p AwaitedProducer,
    number: usize,
    /// Taken when the call is closed.
    answer: Option<oneshot::Receiver<Result<(), DeliveryError>>>,
}

impl OpenCall<'_> {
    /// Hands a record over, copying it.
    ///
    /// # Errors
    /// The record was not accepted and is no part of the call.
    pub fn try_send(&self, record: &OutgoingRecord<'_>) -> Result<(), SendError> {
        self.producer.waiting.one_more(self.number);
        let sent = self.producer.producer.try_send(record, self.number);
        if sent.is_err() {
            self.producer.waiting.answered(self.number, Ok(()));
        }
        sent
    }

    /// Answers when all records of the call are stored by all in-sync replicas.
    ///
    /// # Errors
    /// The first record that was refused; others of the call may be stored.
    pub async fn stored(mut self) -> Result<(), PublishError> {
        self.producer.waiting.answered(self.number, Ok(()));
        // Who waits has nothing more to send.
        self.producer.producer.hurry();
        let answer = match self.answer.take() {
            Some(answer) => answer.await.unwrap_or(Err(DeliveryError::Dropped)),
            None => Err(DeliveryError::Dropped),
        };
        answer.map_err(PublishError::Delivery)
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if self.answer.is_some() {
            self.producer.waiting.answered(self.number, Ok(()));
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

    fn one_more(&self, number: usize) {
        if let Some(call) = self.lock().open.get_mut(&number) {
            call.unanswered += 1;
        }
    }

    fn answered(&self, number: usize, outcome: Result<(), DeliveryError>) {
        let mut calls = self.lock();
        let Some(call) = calls.open.get_mut(&number) else { return };
        call.unanswered = call.unanswered.saturating_sub(1);
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
        self.answered(batch, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_answered_after_its_last_record_with_its_first_error() {
        let waiting = Waiting::default();
        let (call, mut answer) = waiting.open(3);
        let fatal = |text: &str| Err(DeliveryError::Fatal(text.to_owned()));
        waiting.answered(call, Ok(()));
        waiting.answered(call, fatal("first"));
        assert!(answer.try_recv().is_err());
        waiting.answered(call, fatal("second"));
        assert_eq!(answer.try_recv(), Ok(fatal("first")));
        assert!(waiting.lock().open.is_empty());
    }

    #[test]
    fn a_call_that_is_given_up_is_forgotten_when_its_records_are_answered() {
        let settings = ProducerSettings::new(crate::ClientSettings::new("127.0.0.1:1", "test"));
        let producer = AwaitedProducer::new(&settings).unwrap();
        drop(producer.open());
        assert!(producer.waiting.lock().open.is_empty());
    }
}
