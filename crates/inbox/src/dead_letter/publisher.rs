//! Sends dead letters to their topics and marks them after the acknowledgement.
//!
//! Invariant: a row is marked only after its record is stored; a crash in between sends it again with the same
//! `x-dlq-id`. One publisher works for a group at a time; no row is locked while the brokers are waited for.

use std::time::Duration;

use kafka_client::ProducerSettings;
use kafka_client::admin::AdminError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::filter::LetterStatus;
use super::inquiry::{LetterDepth, letter_depths};
use super::record::{Outgoing, outgoing};
use super::sender::{Sender, SenderError};
use crate::engine::failure::chain;
use crate::kill::{is_sabotaged, kill_point};
use crate::metrics;
use crate::store::dead_letter::{Cursor, list_unpublished, lock_publishing, mark_published};

/// Whose dead letters are published, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherSettings {
    /// Full names of the consumer groups.
    pub groups: Vec<String>,
    /// How to reach the brokers.
    pub producer: ProducerSettings,
    /// Behind the original topic's name.
    pub topic_suffix: String,
    /// Values are cut where a record would be longer; must leave room below the broker's `max.message.bytes`.
    pub record_bytes_max: usize,
    /// Rows are looked for at least so often.
    pub interval: Duration,
    /// Rows of one transaction.
    pub batch_rows_max: u32,
    /// How long the acknowledgement of one transaction's records may take.
    pub ack_timeout: Duration,
}

impl PublisherSettings {
    /// Suffix `-dlt`, records of up to 900 KiB, a look each second.
    #[must_use]
    pub fn new(groups: Vec<String>, producer: ProducerSettings) -> Self {
        Self {
            groups,
            producer,
            topic_suffix: "-dlt".to_owned(),
            record_bytes_max: 900 * 1024,
            interval: Duration::from_secs(1),
            batch_rows_max: 50,
            ack_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a round ended early. It is repeated.
#[derive(Debug, Error)]
enum RoundError {
    #[error("database failed")]
    Database(#[from] sqlx::Error),
    #[error("brokers do not tell the partitions of dead letter topics")]
    Partitions(#[source] AdminError),
    #[error("{0} dead letters could not be published")]
    Unsent(usize),
}

/// How often depth and age of open letters are measured.
const DEPTH_INTERVAL: Duration = Duration::from_secs(15);
/// Longest wait after a failed round.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Publishes the dead letters of this process's groups.
pub struct DeadLetterPublisher {
    settings: PublisherSettings,
    options: PgConnectOptions,
    sender: Sender,
    measured_at: Option<Instant>,
}

impl DeadLetterPublisher {
    /// Creates the clients; waits for nobody.
    ///
    /// # Errors
    /// Settings that the client library refuses.
    pub fn new(settings: PublisherSettings, options: PgConnectOptions) -> Result<Self, SenderError> {
        let sender = Sender::new(&settings.producer, settings.ack_timeout)?;
        let options = options.disable_statement_logging();
        Ok(Self { settings, options, sender, measured_at: None })
    }

    /// Publishes until `stop`. Database and brokers may be away for any time.
    pub async fn run(mut self, stop: CancellationToken) {
        let work = async {
            let mut connection = None;
            let mut failures = 0_u32;
            loop {
                let pause = match self.round(&mut connection).await {
                    Ok(()) => {
                        failures = 0;
                        self.settings.interval
                    }
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "dead letters are published later");
                        connection = None;
                        failures += 1;
                        self.settings.interval.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// One pass over everything that is not published.
    async fn round(&mut self, connection: &mut Option<PgConnection>) -> Result<(), RoundError> {
        if connection.is_none() {
            *connection = Some(PgConnection::connect_with(&self.options).await?);
        }
        let Some(connection) = connection.as_mut() else { return Ok(()) };
        self.measure(connection).await?;
        let mut unsent = 0;
        for group in self.settings.groups.clone() {
            unsent += self.publish_group(connection, &group).await?;
        }
        if unsent > 0 { Err(RoundError::Unsent(unsent)) } else { Ok(()) }
    }

    /// Tells how many letters are open, and how old the oldest is.
    async fn measure(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.measured_at.is_some_and(|at| at.elapsed() < DEPTH_INTERVAL) {
            return Ok(());
        }
        let depths = letter_depths(connection, &self.settings.groups).await?;
        for group in &self.settings.groups {
            for status in LetterStatus::WAITING {
                let is_it = |depth: &&LetterDepth| depth.consumer_group == *group && depth.status == status;
                let found = depths.iter().find(is_it);
                let letters = found.map_or(0, |depth| depth.letters);
                let oldest_age = found.map_or(Duration::ZERO, LetterDepth::oldest_age);
                metrics::dead_letter_depth(group, status, letters, oldest_age);
            }
        }
        self.measured_at = Some(Instant::now());
        Ok(())
    }

    /// Publishes a group's letters unless somebody else is at it. A letter that the broker refuses does not hold up the
    /// others; answers how many there were.
    async fn publish_group(
        &mut self,
        connection: &mut PgConnection,
        group: &str,
    ) -> Result<usize, RoundError> {
        let (mut cursor, mut unsent) = (Cursor::default(), 0);
        loop {
            let mut tx = connection.begin().await?;
            let is_publisher = lock_publishing(&mut tx, group).await?;
            let limit = i64::from(self.settings.batch_rows_max);
            let letters = if is_publisher {
                list_unpublished(&mut tx, group, cursor, limit).await?
            } else {
                Vec::new()
            };
            let Some(last) = letters.last() else {
                // A transaction that is only dropped stays open, and keeps the lock, until the connection is used again.
                tx.rollback().await?;
                break;
            };
            cursor = Cursor { first_seen: last.first_seen, id: last.row.id };
            let mut records = Vec::with_capacity(letters.len());
            for letter in &letters {
                let settings = &self.settings;
                let mut record = outgoing(&letter.row, &settings.topic_suffix, settings.record_bytes_max);
                record.partition = self.same_partition(&record).await?;
                records.push((letter.row.id, record));
            }
            if is_sabotaged("inbox.letter_not_awaited") {
                let all: Vec<Uuid> = records.iter().map(|(id, _)| *id).collect();
                mark_published(&mut tx, &all).await?;
                tx.commit().await?;
                kill_point("inbox.after_dlt_send");
                self.send(&records).await;
                continue;
            }
            let sent = self.send(&records).await;
            kill_point("inbox.after_dlt_send");
            unsent += records.len() - sent.len();
            mark_published(&mut tx, &sent).await?;
            tx.commit().await?;
            metrics::dead_letters_published(sent.len());
        }
        Ok(unsent)
    }

    /// Answers the ids of records that are stored.
    async fn send(&self, records: &[(Uuid, Outgoing)]) -> Vec<Uuid> {
        let all: Vec<&Outgoing> = records.iter().map(|(_, record)| record).collect();
        if self.is_sent(&all).await {
            return records.iter().map(|(id, _)| *id).collect();
        }
        let mut sent = Vec::new();
        for (id, record) in records {
            if self.is_sent(&[record]).await {
                sent.push(*id);
            }
        }
        sent
    }

    async fn is_sent(&self, records: &[&Outgoing]) -> bool {
        match self.sender.send(records).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    letters = records.len(),
                    "dead letters are not published"
                );
                false
            }
        }
    }

    /// The original partition's number, if the topic has as many.
    async fn same_partition(&mut self, record: &Outgoing) -> Result<Option<i32>, RoundError> {
        let count =
            self.sender.partition_count(&record.topic).await.map_err(RoundError::Partitions)?.unwrap_or(0);
        Ok(record.partition.filter(|number| usize::try_from(*number).is_ok_and(|number| number < count)))
    }
}

impl std::fmt::Debug for DeadLetterPublisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DeadLetterPublisher")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
