//! Where partitions begin: the stored offset, or the log's start for a partition that was never read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use kafka_client::admin::Watermarks;
use kafka_client::{TopicPartition, WatermarkReader, WatermarksError};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use super::failure::chain;
use super::session::{connect, session_options};
use crate::stop_reason::StopReason;
use crate::store::progress::{Stored, fill_topic_id, find_group, find_offset, insert_group, insert_progress};

/// First and longest wait while the database is away.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Where one partition begins, or why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) origin: TopicPartition,
    /// The topic's id, if the brokers tell it.
    pub(crate) topic_id: Option<Uuid>,
    pub(crate) offset: Result<i64, (i64, StopReason)>,
}

/// The answer to an assignment.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// `None` for partitions that were left out earlier.
    pub(crate) rebalance: Option<u64>,
    pub(crate) group: i16,
    pub(crate) beginnings: Vec<Beginning>,
}

/// What is to be loaded, and for whom.
pub(crate) struct Loader {
    pub(crate) options: PgConnectOptions,
    pub(crate) watermarks: WatermarkReader,
    pub(crate) group: String,
    pub(crate) owner: String,
}

impl Loader {
    /// Waits for the database for as long as it takes; for a partition's leader only as long as one question takes.
    pub(crate) async fn load(self, rebalance: Option<u64>, partitions: Vec<TopicPartition>) -> Loaded {
        let watermarks = join_all(partitions.iter().map(|origin| self.watermarks.read(origin))).await;
        let known: Vec<(TopicPartition, Option<Watermarks>)> = partitions
            .into_iter()
            .zip(watermarks)
            .map(|(origin, found)| {
                if let Err(error) = &found {
                    tracing::warn!(partition = %origin, error = chain(error), "log start and end are not known");
                }
                (origin, found.ok())
            })
            .collect();
        let topic_ids = self.topic_ids(&known).await;
        let mut pause = BACKOFF_FIRST;
        loop {
            match self.read(&known, &topic_ids).await {
                Ok((group, beginnings)) => return Loaded { rebalance, group, beginnings },
                Err(error) => {
                    tracing::warn!(error = chain(&error), "stored offsets are not known");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Without an answer no topic has an id, and none of their partitions begins.
    async fn topic_ids(&self, partitions: &[(TopicPartition, Option<Watermarks>)]) -> BTreeMap<String, Uuid> {
        let topics = partitions.iter().map(|(origin, _)| origin.topic.to_string()).collect();
        match self.watermarks.topic_ids(topics).await {
            Ok(ids) => ids.into_iter().map(|(topic, id)| (topic, Uuid::from_bytes(id.to_bytes()))).collect(),
            Err(error) => {
                tracing::warn!(error = chain(&error), "topic ids are not known");
                BTreeMap::new()
            }
        }
    }

    async fn read(
        &self,
        partitions: &[(TopicPartition, Option<Watermarks>)],
        topic_ids: &BTreeMap<String, Uuid>,
    ) -> Result<(i16, Vec<Beginning>), sqlx::Error> {
        let mut connection = connect(&session_options(&self.options)).await?;
        let group = self.group_number(&mut connection).await?;
        let mut beginnings = Vec::with_capacity(partitions.len());
        for (origin, watermarks) in partitions {
            let topic_id = topic_ids.get(&*origin.topic).copied();
            let mut stored = find_offset(&mut connection, group, origin).await?;
            if let (None, Some(watermarks), Some(_)) = (&stored, watermarks, topic_id) {
                insert_progress(&mut connection, group, origin, watermarks.low, topic_id, &self.owner)
                    .await?;
                stored = find_offset(&mut connection, group, origin).await?;
            }
            let is_nameless = stored.as_ref().is_some_and(|stored| stored.topic_id.is_none());
            let offset = decide_beginning(stored, *watermarks, topic_id);
            if let (true, Ok(_), Some(topic_id)) = (is_nameless, &offset, topic_id) {
                fill_topic_id(&mut connection, group, origin, topic_id).await?;
            }
            beginnings.push(Beginning { origin: origin.clone(), topic_id, offset });
        }
        Ok((group, beginnings))
    }

    async fn group_number(&self, connection: &mut PgConnection) -> Result<i16, sqlx::Error> {
        if let Some(group) = find_group(connection, &self.group).await? {
            return Ok(group);
        }
        insert_group(connection, &self.group).await?;
        find_group(connection, &self.group).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// The ids of topics, as they are stored; those that do not exist are left out.
pub(crate) async fn ask_topic_ids(
    reader: &WatermarkReader,
    topics: BTreeSet<String>,
) -> Result<BTreeMap<String, Uuid>, WatermarksError> {
    let ids = reader.topic_ids(topics).await?;
    Ok(ids.into_iter().map(|(topic, id)| (topic, Uuid::from_bytes(id.to_bytes()))).collect())
}

/// Without watermarks the broker judges the offset when it is read. Without the topic's id nobody could: a topic that was
/// created again may have the offset, too.
fn decide_beginning(
    stored: Option<Stored>,
    watermarks: Option<Watermarks>,
    topic_id: Option<Uuid>,
) -> Result<i64, (i64, StopReason)> {
    let Some(Stored { next_offset: stored, halted, topic_id: read }) = stored else {
        return Err((0, StopReason::LogUnknown));
    };
    if let Some(halted) = halted {
        return Err((stored, StopReason::Halted(halted)));
    }
    let Some(found) = topic_id else {
        return Err((stored, StopReason::TopicUnknown));
    };
    if let Some(read) = read.filter(|read| *read != found) {
        return Err((stored, StopReason::TopicChanged { read, found }));
    }
    match watermarks {
        Some(Watermarks { low, .. }) if stored < low => {
            Err((stored, StopReason::BelowLogStart { stored, low }))
        }
        Some(Watermarks { high, .. }) if stored > high => {
            Err((stored, StopReason::BeyondLogEnd { stored, high }))
        }
        _ => Ok(stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);

    fn stored(next_offset: i64) -> Stored {
        Stored { next_offset, halted: None, topic_id: Some(TOPIC) }
    }

    #[test]
    fn a_partition_begins_at_its_stored_offset_if_the_log_has_it() {
        let log = Some(Watermarks { low: 10, high: 20 });
        for (offset, expected) in [
            (9, Err((9, StopReason::BelowLogStart { stored: 9, low: 10 }))),
            (10, Ok(10)),
            (20, Ok(20)),
            (21, Err((21, StopReason::BeyondLogEnd { stored: 21, high: 20 }))),
        ] {
            assert_eq!(decide_beginning(Some(stored(offset)), log, Some(TOPIC)), expected);
        }
        assert_eq!(decide_beginning(Some(stored(99)), None, Some(TOPIC)), Ok(99));
        let halted = Stored { halted: Some("flood".to_owned()), ..stored(15) };
        let expected = Err((15, StopReason::Halted("flood".to_owned())));
        assert_eq!(decide_beginning(Some(halted), log, Some(TOPIC)), expected);
        assert_eq!(decide_beginning(None, None, Some(TOPIC)), Err((0, StopReason::LogUnknown)));
    }

    #[test]
    fn a_partition_of_another_or_an_unknown_topic_does_not_begin() {
        let log = Some(Watermarks { low: 10, high: 20 });
        let found = Uuid::from_u128(2);
        let changed = StopReason::TopicChanged { read: TOPIC, found };
        assert_eq!(decide_beginning(Some(stored(15)), log, Some(found)), Err((15, changed)));
        assert_eq!(decide_beginning(Some(stored(15)), log, None), Err((15, StopReason::TopicUnknown)));
        let nameless = Stored { topic_id: None, ..stored(15) };
        assert_eq!(decide_beginning(Some(nameless), log, Some(found)), Ok(15));
    }
}
