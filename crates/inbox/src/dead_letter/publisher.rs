//! Sends dead letters to their topics and marks them after the acknowledgement.
//!
//! Invariant: a row is marked only after its record is stored; a crash in between sends it again with the same
//! `x-dlq-id`. Several publishers share the work by `skip locked`.

use std::collections::HashMap;
use std::time::Duration;

use kafka_client::admin::{Admin, AdminError};
use kafka_client::{AwaitedProducer, OutgoingRecord, ProducerError, ProducerSettings};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::record::{Outgoing, outgoing};
use crate::engine::failure::chain;
use crate::kill::kill_point;
use crate::metrics;
use crate::store::dead_letter::{Cursor, lock_unpublished, mark_published};

/// Whose dead letters are published, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherSettings {
    /// Full names of the consumer groups.
    pub groups: Vec<String>,
    /// How to reach the brokers.
    pub producer: ProducerSettings,
    /// Behind the original topic's name.
    pub topic_suffix: String,
    /// Longer values are cut; must leave room below the broker's `max.message.bytes`.
    pub value_bytes_max: usize,
    /// Rows are looked for at least so often.
    pub interval: Duration,
    /// Rows of one transaction.
    pub batch_rows_max: u32,
    /// How long the acknowledgement of one transaction's records may take.
    pub ack_timeout: Duration,
}

impl PublisherSettings {
    /// Suffix `-dlt`, values of up to 900 KiB, a look each second.
    #[must_use]
    pub fn new(groups: Vec<String>, producer: ProducerSettings) -> Self {
        Self {
            groups,
            producer,
            topic_suffix: "-dlt".to_owned(),
            value_bytes_max: 900 * 1024,
            interval: Duration::from_secs(1),
            batch_rows_max: 50,
            ack_timeout: Duration::from_secs(30),
        }
    }
}

/// Why nothing can be published.
#[derive(Debug, Error)]
pub enum PublisherError {
    /// The producer does not take the settings.
    #[error("dead letter publisher has no producer")]
    Producer(#[source] ProducerError),
    /// The client library does not take the settings.
    #[error("dead letter publisher cannot ask for partitions")]
    Admin(#[source] AdminError),
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

/// Longest wait after a failed round.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Publishes the dead letters of this process's groups.
pub struct DeadLetterPublisher {
    settings: PublisherSettings,
    options: PgConnectOptions,
    producer: AwaitedProducer,
    admin: Admin,
    partitions: HashMap<String, usize>,
}

impl DeadLetterPublisher {
    /// Creates the clients; waits for nobody.
    ///
    /// # Errors
    /// Settings that the client library refuses.
    pub fn new(settings: PublisherSettings, options: PgConnectOptions) -> Result<Self, PublisherError> {
        let producer = AwaitedProducer::new(&settings.producer).map_err(PublisherError::Producer)?;
        let admin = Admin::new(&settings.producer.client).map_err(PublisherError::Admin)?;
        let options = options.disable_statement_logging();
        Ok(Self { settings, options, producer, admin, partitions: HashMap::new() })
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

    /// One pass over everything that is not published; a letter that the broker refuses does not hold up the others.
    async fn round(&mut self, connection: &mut Option<PgConnection>) -> Result<(), RoundError> {
        if connection.is_none() {
            *connection = Some(PgConnection::connect_with(&self.options).await?);
        }
        let Some(connection) = connection.as_mut() else { return Ok(()) };
        let (mut cursor, mut unsent) = (Cursor::default(), 0);
        loop {
            let mut tx = connection.begin().await?;
            let limit = i64::from(self.settings.batch_rows_max);
            let letters = lock_unpublished(&mut tx, &self.settings.groups, cursor, limit).await?;
            let Some(last) = letters.last() else { break };
            cursor = Cursor { first_seen: last.first_seen, id: last.row.id };
            let records: Vec<(Uuid, Outgoing)> = letters
                .iter()
                .map(|letter| {
                    let value_bytes_max = self.settings.value_bytes_max;
                    (letter.row.id, outgoing(&letter.row, &self.settings.topic_suffix, value_bytes_max))
                })
                .collect();
            let sent = self.send(&records).await?;
            kill_point("inbox.after_dlt_send");
            unsent += records.len() - sent.len();
            mark_published(&mut tx, &sent).await?;
            tx.commit().await?;
            metrics::dead_letters_published(sent.len());
        }
        if unsent > 0 { Err(RoundError::Unsent(unsent)) } else { Ok(()) }
    }

    /// Answers the ids of records that are stored.
    async fn send(&mut self, records: &[(Uuid, Outgoing)]) -> Result<Vec<Uuid>, RoundError> {
        for (_, record) in records {
            self.learn_partitions(&record.topic).await?;
        }
        let all: Vec<&Outgoing> = records.iter().map(|(_, record)| record).collect();
        if self.send_together(&all).await {
            return Ok(records.iter().map(|(id, _)| *id).collect());
        }
        let mut sent = Vec::new();
        for (id, record) in records {
            if self.send_together(&[record]).await {
                sent.push(*id);
            }
        }
        Ok(sent)
    }

    async fn send_together(&self, records: &[&Outgoing]) -> bool {
        let headers: Vec<Vec<(&str, &[u8])>> = records
            .iter()
            .map(|record| {
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
            })
            .collect();
        let outgoing: Vec<OutgoingRecord<'_>> = records
            .iter()
            .zip(&headers)
            .map(|(record, headers)| OutgoingRecord {
                topic: &record.topic,
                key: record.key.as_deref(),
                payload: record.value.as_deref(),
                headers,
                partition: self.same_partition(record),
                timestamp: None,
            })
            .collect();
        match tokio::time::timeout(self.settings.ack_timeout, self.producer.send_all(&outgoing)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(error = chain(&error), letters = records.len(), "dead letters were refused");
                false
            }
            Err(_) => {
                tracing::warn!(letters = records.len(), "dead letters were not acknowledged in time");
                false
            }
        }
    }

    /// The original partition's number, if the topic has as many.
    fn same_partition(&self, record: &Outgoing) -> Option<i32> {
        let count = self.partitions.get(&record.topic).copied().unwrap_or(0);
        usize::try_from(record.partition).is_ok_and(|number| number < count).then_some(record.partition)
    }

    async fn learn_partitions(&mut self, topic: &str) -> Result<(), RoundError> {
        if !self.partitions.contains_key(topic)
            && let Some(count) = self.admin.partition_count(topic).await.map_err(RoundError::Partitions)?
        {
            self.partitions.insert(topic.to_owned(), count);
        }
        Ok(())
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
