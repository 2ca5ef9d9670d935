//! Partitions come and go: where they begin, and how they are drained.

use std::collections::BTreeSet;

use kafka_client::{Start, TopicPartition};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Conductor, Partition};
use crate::engine::loader::{Beginning, Loaded, Loader};
use crate::metrics::{self, Rebalanced};
use crate::projection::Projection;
use crate::status::StopReason;

/// A revocation that waits for batches.
pub(super) struct Revocation {
    pub(super) rebalance: u64,
    pub(super) waits_for: BTreeSet<TopicPartition>,
    pub(super) deadline: Instant,
}

impl<P: Projection> Conductor<P> {
    pub(super) fn load(&mut self, rebalance: Option<u64>, partitions: Vec<TopicPartition>) {
        let loader = Loader {
            options: self.options.clone(),
            watermarks: self.consumer.watermark_reader(),
            group: self.shared.settings.kafka.group.clone(),
            owner: self.shared.settings.owner.clone(),
        };
        self.loading.spawn(loader.load(rebalance, partitions));
    }

    pub(super) fn loaded(&mut self, loaded: Loaded) {
        self.group = loaded.group;
        let mut starts = Vec::new();
        for Beginning { origin, offset } in loaded.beginnings {
            if loaded.rebalance.is_none() && !self.partitions.contains_key(&origin) {
                // It was taken away while it was asked about.
                continue;
            }
            self.generation += 1;
            let generation = self.generation;
            let (expected, stopped) = match offset {
                Ok(offset) => (offset, None),
                Err((stored, reason)) => (stored, Some(reason)),
            };
            let partition = Partition { generation, expected, is_stopped: stopped.is_some() };
            self.partitions.insert(origin.clone(), partition);
            self.status.assigned(origin.clone(), expected, stopped.clone());
            match stopped {
                None => starts.push(Start { origin, offset: expected, generation }),
                Some(StopReason::LogUnknown) => self.unknown.push(origin),
                Some(reason) => tracing::error!(partition = %origin, %reason, "partition is stopped"),
            }
        }
        self.consumer.assign(loaded.rebalance, starts);
    }

    pub(super) fn revoke(&mut self, rebalance: u64, partitions: &[TopicPartition], lost: bool) {
        metrics::rebalanced(self.group_name(), if lost { Rebalanced::Lost } else { Rebalanced::Revoked });
        tracing::info!(
            group = self.group_name(),
            partitions = partitions.len(),
            lost,
            "partitions are taken away"
        );
        for origin in partitions {
            self.partitions.remove(origin);
            self.status.removed(origin);
        }
        self.unknown.retain(|origin| !partitions.contains(origin));
        self.ready.retain(|job| !partitions.contains(&job.origin));
        self.delayed.retain(|(_, job)| !partitions.contains(&job.origin));
        let running = self.running.values().filter(|running| partitions.contains(&running.origin));
        if lost {
            running.for_each(|running| running.abort.abort());
            // An assignment that was not answered is lost as well.
            self.loading = JoinSet::new();
            return;
        }
        let waits_for: BTreeSet<TopicPartition> = running.map(|running| running.origin.clone()).collect();
        let deadline = Instant::now() + self.shared.settings.revoke_grace;
        self.revocations.push(Revocation { rebalance, waits_for, deadline });
        self.answer_revocations();
    }

    pub(super) fn answer_revocations(&mut self) {
        let consumer = &self.consumer;
        self.revocations.retain(|revocation| {
            let is_drained = revocation.waits_for.is_empty();
            if is_drained {
                consumer.unassign(revocation.rebalance);
            }
            !is_drained
        });
    }

    /// Gives up on batches that hold up a revocation for too long.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        for revocation in self.revocations.iter_mut().filter(|revocation| revocation.deadline <= now) {
            for running in
                self.running.values().filter(|running| revocation.waits_for.contains(&running.origin))
            {
                tracing::warn!(partition = %running.origin, "batch did not end in time and is rolled back");
                running.abort.abort();
            }
            // The aborted workers may still hold their partitions' rows for a moment; the fence keeps it right.
            revocation.waits_for.clear();
        }
        self.answer_revocations();
    }
}
