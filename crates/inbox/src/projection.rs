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

/// What becomes of the later events of a key, one of whose events became a dead letter.
///
/// Kafka keeps the order of a key, and so does the engine as long as nothing fails. A projection that does not need more
/// loses no time over what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderingMode {
    /// They are applied. The effects of events can be exchanged, as sums can: what is redriven later counts the same.
    Commutative,
    /// They are applied. Each event carries the whole state with a version, and [`Projection::apply`] replaces only what is
    /// older: what is redriven later replaces nothing newer.
    LatestWins,
    /// They wait, as letters with status `blocked`, until an operator redrives or discards the first; then they have their
    /// effect, in order. Records without a key have no order. The order is that of a partition: it holds while the number
    /// of partitions does not change.
    Strict,
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
/// them while it isolates one that the database refuses. What waited behind a dead letter is applied beside the batches of
/// its partition, never beside other events of its key. Panics of `decode` and `apply` are contained.
pub trait Projection: Send + Sync + 'static {
    /// A decoded record.
    type Event: Send + Sync + 'static;

    /// What the projection asks of the order of a key. The same answer every time.
    fn ordering(&self) -> OrderingMode;

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
