//! Whether the topics that are read are still those whose offsets are stored.
//!
//! The client library reads on at the same offset when a topic is deleted and created again within a moment, if the new one
//! has that offset. So the brokers are asked at every tick. What was read meanwhile is handled, once; what lies before it is
//! not lost, because the partition stops until an operator has set its offset.

use std::collections::BTreeMap;

use kafka_client::TopicPartition;
use uuid::Uuid;

use super::Conductor;
use crate::engine::failure::chain;
use crate::engine::loader::ask_topic_ids;
use crate::projection::Projection;
use crate::stop_reason::StopReason;

/// Ids by topic.
pub(super) type TopicIds = BTreeMap<String, Uuid>;

impl<P: Projection> Conductor<P> {
    /// Asks for the ids of all topics that are read, one question at a time.
    pub(super) fn ask_topic_ids(&mut self) {
        if self.reading.is_empty() || !self.asking.is_empty() {
            return;
        }
        let topics = self.reading.keys().map(|origin| origin.topic.to_string()).collect();
        let reader = self.consumer.watermark_reader();
        self.asking.spawn(async move {
            ask_topic_ids(&reader, topics).await.unwrap_or_else(|error| {
                // Whoever does not answer this does not send records either.
                tracing::debug!(error = chain(&error), "topic ids are asked for again");
                TopicIds::new()
            })
        });
    }

    /// Stops partitions whose topic is another one now. A topic that is not there is left to the group, which takes it away.
    pub(super) fn told_topic_ids(&mut self, ids: &TopicIds) {
        let changed = |origin: &TopicPartition, read: Uuid| {
            let found = ids.get(&*origin.topic).copied().filter(|found| *found != read)?;
            Some((origin.clone(), StopReason::TopicChanged { read, found }))
        };
        let changed: Vec<_> =
            self.reading.iter().filter_map(|(origin, read)| changed(origin, *read)).collect();
        for (origin, reason) in changed {
            self.board.stop(&origin, reason);
        }
    }
}
