//! What the client library calls back, on the poll thread.
//!
//! A rebalance is only noted here; the poll loop answers it, because partitions are drained and their offsets loaded
//! first. While the consumer closes there is no loop any more, and the rebalance is answered at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::UnboundedSender;

use super::{ConsumerEvent, TopicPartition};

/// A rebalance that waits for the answer of the poll loop.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke { partitions: Vec<TopicPartition>, lost: bool },
}

pub(super) struct Context {
    events: UnboundedSender<ConsumerEvent>,
    rebalances: Mutex<VecDeque<Rebalance>>,
    is_closing: AtomicBool,
}

impl Context {
    pub(super) fn new(events: UnboundedSender<ConsumerEvent>) -> Self {
        Self { events, rebalances: Mutex::default(), is_closing: AtomicBool::new(false) }
    }

    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    pub(super) fn send(&self, event: ConsumerEvent) {
        // Whoever listened is gone, and the poll loop is about to learn it.
        let _ = self.events.send(event);
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is where a consumer spends most of its life.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        // Broker-wide trouble: the library goes on by itself.
        tracing::warn!(%error, reason, "kafka consumer reports an error");
    }

    fn stats(&self, statistics: Statistics) {
        let mut ends = Vec::new();
        for (name, topic) in &statistics.topics {
            let name: Arc<str> = name.as_str().into();
            for partition in topic.partitions.values() {
                // Transactions that are not committed are not read: the end is the last stable offset.
                let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                if partition.desired && end >= 0 {
                    ends.push((
                        TopicPartition { topic: Arc::clone(&name), partition: partition.partition },
                        end,
                    ));
                }
            }
        }
        let is_member =
            statistics.cgrp.is_some_and(|group| group.state == "up" && group.join_state == "steady");
        self.send(ConsumerEvent::Observed { ends, is_member });
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigns = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Acquire) {
            let answer = if assigns {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.incremental_unassign(list).or_else(|_| consumer.unassign())
            };
            if let Err(error) = answer {
                tracing::debug!(%error, "rebalance while closing was not answered");
            }
            return;
        }
        let partitions =
            list.elements().iter().map(|element| origin(element.topic(), element.partition())).collect();
        let rebalance = if assigns {
            Rebalance::Assign(partitions)
        } else {
            Rebalance::Revoke { partitions, lost: consumer.assignment_lost() }
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        // Only lag tools look at these offsets.
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => tracing::debug!(%error, "advisory commit failed"),
        }
    }
}

pub(super) fn origin(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

/// A list with explicit offsets, or without.
pub(super) fn list<'a>(
    partitions: impl Iterator<Item = (&'a TopicPartition, Option<i64>)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (origin, offset) in partitions {
        let offset = offset.map_or(Offset::Invalid, Offset::Offset);
        list.add_partition_offset(&origin.topic, origin.partition, offset)?;
    }
    Ok(list)
}
