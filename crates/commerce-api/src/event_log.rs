//! Domain events into the outbox, in the transaction of their change.

use chrono::{DateTime, Utc};
use commerce_events::Event;
use outbox::{AppendError, AppendLimits, NewEvent, Nudge};
use sqlx::PgConnection;
use thiserror::Error;
use uuid::Uuid;

/// Why events could not be appended; the caller's transaction must be given up.
#[derive(Debug, Error)]
pub enum EventLogError {
    /// An event cannot be written as JSON.
    #[error("event cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// The outbox refused.
    #[error("outbox refused the events")]
    Append(#[source] AppendError),
}

/// An event with what its envelope needs.
pub(crate) struct Occurrence<'a> {
    pub(crate) event: Event,
    pub(crate) occurred_at: DateTime<Utc>,
    /// W3C trace context of the request.
    pub(crate) traceparent: Option<&'a str>,
}

/// Where events go: the outbox, under the configured topic prefix.
#[derive(Clone)]
pub struct EventLog {
    topic_prefix: String,
    limits: AppendLimits,
    nudge: Option<Nudge>,
}

impl EventLog {
    /// `nudge` wakes a relay in the same process after each commit.
    #[must_use]
    pub fn new(topic_prefix: String, limits: AppendLimits, nudge: Option<Nudge>) -> Self {
        Self { topic_prefix, limits, nudge }
    }

    /// Appends in order, in the transaction that is open on `connection`.
    ///
    /// # Errors
    /// [`EventLogError`]; nothing of the call may be committed then.
    pub(crate) async fn append(
        &self,
        connection: &mut PgConnection,
        occurrences: &[Occurrence<'_>],
    ) -> Result<(), EventLogError> {
        if occurrences.is_empty() {
            return Ok(());
        }
        let events = occurrences
            .iter()
            .map(|occurrence| self.envelope(occurrence))
            .collect::<Result<Vec<_>, _>>()
            .map_err(EventLogError::Encode)?;
        outbox::append(connection, &events, &self.limits).await.map_err(EventLogError::Append)
    }

    /// Tells a relay in the same process that there is something to publish. Call after the commit.
    pub(crate) fn committed(&self) {
        if let Some(nudge) = &self.nudge {
            nudge.notify();
        }
    }

    fn envelope(&self, occurrence: &Occurrence<'_>) -> Result<NewEvent, serde_json::Error> {
        let event = &occurrence.event;
        let type_name = event.type_name();
        let id = event.aggregate_id().to_string();
        Ok(NewEvent {
            event_id: Uuid::now_v7(),
            event_type: type_name.as_str().into(),
            aggregate_type: type_name.aggregate_type().into(),
            aggregate_id: id.clone(),
            aggregate_version: event.aggregate_version(),
            topic: format!("{}{}", self.topic_prefix, type_name.topic()),
            partition_key: id,
            payload: Some(event.to_json()?),
            headers: Vec::new(),
            traceparent: occurrence.traceparent.map(str::to_owned),
            occurred_at: occurrence.occurred_at,
        })
    }
}
