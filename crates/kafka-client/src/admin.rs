//! Topics: create, delete, list, describe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};
use thiserror::Error;
use tokio::time::Instant;

use crate::settings::ClientSettings;
use crate::topic_id::{TopicId, describe_topics};

/// How long a question or an order to the brokers may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before a question is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
    /// Topic settings by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// The first offset that a partition's log still has, and one past the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Log start.
    pub low: i64,
    /// Log end.
    pub high: i64,
}

/// Why the brokers did not do it.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The client library does not take the settings.
    #[error("admin settings are not usable")]
    Settings(#[source] KafkaError),
    /// The brokers did not answer.
    #[error("brokers did not answer while {doing}")]
    Ask {
        /// What was asked for.
        doing: &'static str,
        /// The client's words.
        #[source]
        source: KafkaError,
    },
    /// The brokers refuse it for one topic.
    #[error("topic {topic} was refused while {doing}: {code}")]
    Refused {
        /// What was asked for.
        doing: &'static str,
        /// The topic.
        topic: String,
        /// The broker's reason.
        code: RDKafkaErrorCode,
    },
    /// A topic was created, and the brokers still do not know it.
    #[error("topic {topic} was created, and the brokers do not know it yet")]
    Unseen {
        /// The topic.
        topic: String,
    },
    /// The blocking task ended without an answer: the runtime is shutting down.
    #[error("question to the brokers was dropped")]
    Dropped(#[source] tokio::task::JoinError),
}

/// A client for topics; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    native: Arc<AdminClient<DefaultClientContext>>,
}

impl Admin {
    /// Creates the client; does not wait for a broker.
    ///
    /// # Errors
    /// [`AdminError::Settings`].
    pub fn new(client: &ClientSettings) -> Result<Self, AdminError> {
        let native = client.config(&[]).create().map_err(AdminError::Settings)?;
        Ok(Self { native: Arc::new(native) })
    }

    /// Creates those topics that do not exist, and waits until they can be used; existing ones stay as they are.
    ///
    /// # Errors
    /// No answer, or the first topic that the brokers refuse.
    pub async fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), AdminError> {
        const DOING: &str = "creating topics";
        if specs.is_empty() {
            return Ok(());
        }
        let topics: Vec<NewTopic<'_>> = specs
            .iter()
            .map(|spec| {
                let replication = TopicReplication::Fixed(spec.replication);
                spec.config
                    .iter()
                    .fold(NewTopic::new(&spec.name, spec.partitions, replication), |topic, (name, value)| {
                        topic.set(name, value)
                    })
            })
            .collect();
        let results = self.native.create_topics(&topics, &options()).await;
        check(DOING, results, RDKafkaErrorCode::TopicAlreadyExists)?;
        self.await_topics(specs).await
    }

    /// A controller answers before every broker has heard of a new topic; whoever used it at once would be told that it
    /// does not exist.
    async fn await_topics(&self, specs: &[TopicSpec]) -> Result<(), AdminError> {
        let deadline = Instant::now() + ASK_TIMEOUT;
        loop {
            let known = self.list_topics().await?;
            let Some(missing) = specs.iter().find(|spec| !known.contains_key(&spec.name)) else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(AdminError::Unseen { topic: missing.name.clone() });
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    /// Deletes topics; those that do not exist are fine.
    ///
    /// # Errors
    /// No answer, or the first topic that the brokers refuse.
    pub async fn delete_topics(&self, names: &[&str]) -> Result<(), AdminError> {
        if names.is_empty() {
            return Ok(());
        }
        let results = self.native.delete_topics(names, &options()).await;
        check("deleting topics", results, RDKafkaErrorCode::UnknownTopicOrPartition)
    }

    /// Deletes the records of a partition below `before`, as retention does; the log starts there afterwards.
    ///
    /// # Errors
    /// No answer, or the brokers refuse.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<(), AdminError> {
        const DOING: &str = "deleting records";
        let asked = |source| AdminError::Ask { doing: DOING, source };
        let mut offsets = TopicPartitionList::with_capacity(1);
        offsets.add_partition_offset(topic, partition, Offset::Offset(before)).map_err(asked)?;
        let answered = self.native.delete_records(&offsets, &options()).await.map_err(asked)?;
        answered
            .elements()
            .iter()
            .try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)
            .map_err(asked)
    }

    /// Gives a topic more partitions: `partitions` is how many it has afterwards. Keys move to other partitions by it.
    ///
    /// # Errors
    /// No answer, or the brokers refuse.
    pub async fn add_partitions(&self, topic: &str, partitions: usize) -> Result<(), AdminError> {
        const DOING: &str = "adding partitions";
        let more = [NewPartitions::new(topic, partitions)];
        let answered = self.native.create_partitions(&more, &options()).await;
        let results = answered.map_err(|source| AdminError::Ask { doing: DOING, source })?;
        results.into_iter().try_for_each(|result| {
            result
                .map(|_| ())
                .map_err(|(_, code)| AdminError::Ask { doing: DOING, source: KafkaError::AdminOp(code) })
        })
    }

    /// Every topic with its number of partitions.
    ///
    /// # Errors
    /// No answer.
    pub async fn list_topics(&self) -> Result<BTreeMap<String, usize>, AdminError> {
        let metadata = self.metadata().await?;
        Ok(metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
            .collect())
    }

    /// How many partitions a topic has; `None` if it does not exist. Never creates it.
    ///
    /// # Errors
    /// No answer.
    pub async fn partition_count(&self, topic: &str) -> Result<Option<usize>, AdminError> {
        Ok(self.list_topics().await?.get(topic).copied())
    }

    /// Log start and end of one partition.
    ///
    /// # Errors
    /// No answer, or no such partition.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, AdminError> {
        let (native, topic) = (Arc::clone(&self.native), topic.to_owned());
        let (low, high) = ask("reading watermarks", move || {
            native.inner().fetch_watermarks(&topic, partition, ASK_TIMEOUT)
        })
        .await?;
        Ok(Watermarks { low, high })
    }

    /// Log end of each partition; empty if the topic does not exist.
    ///
    /// # Errors
    /// No answer.
    pub async fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, AdminError> {
        let metadata = self.metadata().await?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|found| found.name() == topic)
            .flat_map(|found| found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
            .collect();
        let mut ends = BTreeMap::new();
        for partition in partitions {
            ends.insert(partition, self.watermarks(topic, partition).await?.high);
        }
        Ok(ends)
    }

    /// The id of each topic's present life; topics that do not exist are left out. Never creates one.
    ///
    /// # Errors
    /// No answer, or a name that cannot be a topic's.
    pub async fn topic_ids(&self, topics: &[&str]) -> Result<BTreeMap<String, TopicId>, AdminError> {
        let native = Arc::clone(&self.native);
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        ask("reading topic ids", move || {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            describe_topics(native.inner(), &names, ASK_TIMEOUT)
        })
        .await
    }

    async fn metadata(&self) -> Result<Metadata, AdminError> {
        let native = Arc::clone(&self.native);
        // All topics: asking for one by name may create it.
        ask("listing topics", move || native.inner().fetch_metadata(None, ASK_TIMEOUT)).await
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK_TIMEOUT)).operation_timeout(Some(ASK_TIMEOUT))
}

/// Asks until there is an answer: while a broker comes back or a leader is elected, it is asked again.
async fn ask<T: Send + 'static>(
    doing: &'static str,
    question: impl Fn() -> Result<T, KafkaError> + Send + Sync + 'static,
) -> Result<T, AdminError> {
    let question = Arc::new(question);
    let deadline = Instant::now() + ASK_TIMEOUT;
    loop {
        let asked = Arc::clone(&question);
        let answer = tokio::task::spawn_blocking(move || asked()).await.map_err(AdminError::Dropped)?;
        match answer {
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                tokio::time::sleep(ASK_PAUSE).await;
            }
            answer => return answer.map_err(|source| AdminError::Ask { doing, source }),
        }
    }
}

/// Whether the brokers are about to sort it out among themselves.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
        )
    )
}

fn check(
    doing: &'static str,
    results: Result<Vec<TopicResult>, KafkaError>,
    fine: RDKafkaErrorCode,
) -> Result<(), AdminError> {
    for result in results.map_err(|source| AdminError::Ask { doing, source })? {
        match result {
            Ok(_) => {}
            Err((_, code)) if code == fine => {}
            Err((topic, code)) => return Err(AdminError::Refused { doing, topic, code }),
        }
    }
    Ok(())
}
