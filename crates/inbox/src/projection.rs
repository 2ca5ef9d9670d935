//! The seam to those who use the events: what a record means, and what it changes.

use std::future::Future;

use chrono::{DateTime, Utc};
use kafka_client::HeaderIter;
use sqlx::PgConnection;

/// What a projection makes of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<E> {
    /// The record has an effect, once.
    Apply(E),
    /// An event that this projection does not use.
    Skip,
    /// A type that the projection's contract does not know. [`UnknownTypes`](crate::UnknownTypes) of the settings decides
    /// what becomes of the record.
    Unknown,
}

/// A record that can never succeed: it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable slug that operators group by.
    pub reason: &'static str,
    /// What is wrong with this record.
    pub error: String,
}

/// A record as the projection sees it.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Without the prefix of the environment.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// The key's bytes.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Header `ce_type`.
    pub event_type: &'a str,
    /// Header `ce_time`, if it is there and can be read.
    pub occurred_at: Option<DateTime<Utc>>,
    pub(crate) headers: HeaderIter<'a>,
}

impl<'a> RecordView<'a> {
    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.into_iter().find(|(found, _)| *found == name).and_then(|(_, value)| value)
    }
}

/// A read model that events change, exactly once each.
///
/// The engine calls `apply` with events of one topic partition in the order of their offsets, without duplicates, in
/// the transaction that moves the offset. It may call it again with the same events after a rollback, and with parts of
/// them while it isolates one that the database refuses. Panics of `decode` and `apply` are contained.
pub trait Projection: Send + Sync + 'static {
    /// A decoded record.
    type Event: Send + Sync + 'static;

    /// Decodes one record. Pure: no I/O, the same answer every time.
    ///
    /// # Errors
    /// A record that can never succeed.
    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<Self::Event>, Refusal>;

    /// Writes the effect of events, all of one partition. It must neither commit nor roll back.
    ///
    /// # Errors
    /// SQLSTATE classes 22 and 23 blame an event: the culprits are found and become dead letters. Anything else is
    /// tried again, for as long as it takes.
    fn apply(
        &self,
        tx: &mut PgConnection,
        topic: &str,
        partition: i32,
        events: &[Self::Event],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// After the commit of these events; best effort. It may be called twice, and never, if the process dies in between.
    fn committed(&self, events: &[Self::Event]) -> impl Future<Output = ()> + Send;
}
