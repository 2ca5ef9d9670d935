//! Sends a page of events and learns what became of each: for pages that hold a suspect, and for parked records that are
//! released.
//!
//! Invariant: an event is called refused only when the broker refused it in a request of its own; when it was, no later
//! event of its key has been stored.

use kafka_client::{
    AwaitedProducer, DeliveryError, OpenCall, ProducerSettings, PublishError, Refusal, SendError,
};

use super::caution::SharedCaution;
use super::parking::Parking;
use super::record::RecordWriter;
use super::session::SessionError;
use crate::headers::UnreadableHeaders;
use crate::store::parked::Refused;
use crate::store::window::WholeEvent;

/// Pause before a record is offered again to a full producer.
const QUEUE_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);
/// The reason of a record that cannot even be built from its row.
const UNREADABLE: &str = "unreadable";

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Stored by the broker.
    Published,
    /// Not sent, because its key is blocked.
    Waiting,
    /// Refused for good.
    Refused(Refused),
}

/// What became of a page.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// Of its events, from the first on; all of them unless there is an error.
    pub(crate) known: Vec<Outcome>,
    /// Why the others' is not known.
    pub(crate) error: Option<SessionError>,
}

/// Sends pages.
#[derive(Debug)]
pub(crate) struct Careful {
    settings: ProducerSettings,
    caution: SharedCaution,
    writer: RecordWriter,
    /// For pages without a suspect: stores nothing behind a refused record.
    together: Held,
    /// For one record at a time: goes on behind a refused record.
    alone: Held,
}

impl Careful {
    pub(crate) fn new(settings: ProducerSettings, caution: SharedCaution) -> Self {
        let (together, alone) = (Held(None), Held(None));
        Self { settings, caution, writer: RecordWriter::new(), together, alone }
    }

    /// Sends the events, which are in the order of their ids for each key, and tells what became of each. The key of an
    /// event that is refused is blocked from then on.
    ///
    /// Waits over an outage of any length.
    pub(crate) async fn publish(&mut self, page: &[WholeEvent], parking: &mut Parking) -> Outcomes {
        let has_suspect = {
            let caution = self.caution.lock();
            page.iter().any(|event| caution.is_suspect(event.event_id))
        };
        if !has_suspect {
            match self.send_together(page, parking).await {
                Ok(true) => {
                    let of = |event| {
                        if is_blocked(parking, event) { Outcome::Waiting } else { Outcome::Published }
                    };
                    return Outcomes { known: page.iter().map(of).collect(), error: None };
                }
                Ok(false) => {}
                Err(error) => return Outcomes { known: Vec::new(), error: Some(error) },
            }
        }
        let mut known = Vec::with_capacity(page.len());
        for event in page {
            match self.send_alone(event, parking).await {
                Ok(outcome) => known.push(outcome),
                Err(error) => return Outcomes { known, error: Some(error) },
            }
        }
        Outcomes { known, error: None }
    }

    /// Answers `false` when some record was refused: then nobody knows which are stored, and all must be sent again.
    async fn send_together(&mut self, page: &[WholeEvent], parking: &Parking) -> Result<bool, SessionError> {
        let Self { settings, writer, together, .. } = self;
        let producer = match &mut together.0 {
            Some(producer) => producer,
            none => none.insert(AwaitedProducer::gapless(settings).map_err(SessionError::Producer)?),
        };
        let sent = send_page(producer, writer, page, parking).await;
        if !matches!(sent, Ok(())) {
            // What it has in flight may still be stored, which does no harm: it is a prefix of what is sent again.
            *together = Held(None);
        }
        match sent {
            Ok(()) => Ok(true),
            Err(NotSent::Unreadable(_)) => Ok(false),
            Err(NotSent::Publish(error)) => match judge(error) {
                Judged::Refused(_) | Judged::Ended(_) => Ok(false),
                Judged::Passes(error) => Err(SessionError::Publish(error)),
            },
        }
    }

    async fn send_alone(
        &mut self,
        event: &WholeEvent,
        parking: &mut Parking,
    ) -> Result<Outcome, SessionError> {
        if is_blocked(parking, event) {
            return Ok(Outcome::Waiting);
        }
        let Self { settings, writer, alone, .. } = self;
        let producer = match &mut alone.0 {
            Some(producer) => producer,
            none => none.insert(AwaitedProducer::new(settings).map_err(SessionError::Producer)?),
        };
        let refused = match send_page(producer, writer, std::slice::from_ref(event), parking).await {
            Ok(()) => return Ok(Outcome::Published),
            Err(NotSent::Unreadable(error)) => Refused { reason: UNREADABLE, error: error.to_string() },
            Err(NotSent::Publish(error)) => match judge(error) {
                Judged::Refused(refused) => refused,
                Judged::Passes(error) | Judged::Ended(error) => return Err(SessionError::Publish(error)),
            },
        };
        parking.block(&event.topic, &event.partition_key).map_err(SessionError::ParkingFull)?;
        Ok(Outcome::Refused(refused))
    }
}

fn is_blocked(parking: &Parking, event: &WholeEvent) -> bool {
    parking.blocks(&event.topic, &event.partition_key)
}

/// Why a page was not stored as a whole.
enum NotSent {
    Unreadable(UnreadableHeaders),
    Publish(PublishError),
}

async fn send_page(
    producer: &AwaitedProducer,
    writer: &mut RecordWriter,
    page: &[WholeEvent],
    parking: &Parking,
) -> Result<(), NotSent> {
    let call = producer.open();
    for event in page.iter().filter(|event| !is_blocked(parking, event)) {
        offer(&call, writer, event).await?;
    }
    call.stored().await.map_err(NotSent::Publish)
}

async fn offer(call: &OpenCall<'_>, writer: &mut RecordWriter, event: &WholeEvent) -> Result<(), NotSent> {
    loop {
        let sent =
            writer.write(&event.stored(), |record| call.try_send(record)).map_err(NotSent::Unreadable)?;
        match sent {
            Ok(()) => return Ok(()),
            Err(SendError::QueueFull) => tokio::time::sleep(QUEUE_PAUSE).await,
            Err(error) => return Err(NotSent::Publish(PublishError::Send(error))),
        }
    }
}

/// What a failed call says about its records.
enum Judged {
    Refused(Refused),
    /// The producer has ended, as a gapless one does at a refusal.
    Ended(PublishError),
    Passes(PublishError),
}

fn judge(error: PublishError) -> Judged {
    let refused =
        |refusal: Refusal, error: String| Judged::Refused(Refused { reason: refusal.name(), error });
    match error {
        PublishError::Send(SendError::Refused { refusal, reason, .. }) => refused(refusal, reason),
        PublishError::Delivery(DeliveryError::Refused { refusal, text, .. }) => refused(refusal, text),
        PublishError::Send(SendError::Fatal(_)) | PublishError::Delivery(DeliveryError::Fatal(_)) => {
            Judged::Ended(error)
        }
        PublishError::Send(SendError::QueueFull | SendError::Passes { .. })
        | PublishError::Delivery(DeliveryError::Passes { .. } | DeliveryError::Dropped) => {
            Judged::Passes(error)
        }
    }
}

/// A producer that is dropped where blocking for a moment does no harm.
#[derive(Debug)]
struct Held(Option<AwaitedProducer>);

impl Drop for Held {
    fn drop(&mut self) {
        if let (Some(producer), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(producer));
        }
    }
}
