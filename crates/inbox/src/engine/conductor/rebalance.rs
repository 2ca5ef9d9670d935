//! Partitions come and go: where they begin, and how they are given back.

use kafka_client::TopicPartition;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Conductor;
use crate::engine::loader::{Beginning, Loaded, Loader};
use crate::kill::kill_point;
use crate::metrics::{self, Rebalanced};
use crate::projection::Projection;
use crate::stop_reason::StopReason;

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
        for Beginning { origin, topic_id, offset } in loaded.beginnings {
            if loaded.rebalance.is_none() && !self.board.has(&origin) {
                // It was taken away while it was asked about.
                continue;
            }
            match offset {
                Ok(offset) => {
                    self.reading.extend(topic_id.map(|id| (origin.clone(), id)));
                    self.status.assigned(origin.clone(), offset, None);
                    starts.push(self.board.assigned(origin, offset));
                }
                Err((stored, reason)) => {
                    self.board.assigned_stopped(&origin, stored);
                    self.status.assigned(origin.clone(), stored, Some(reason.clone()));
                    if !matches!(reason, StopReason::LogUnknown) && loaded.rebalance.is_some() {
                        tracing::error!(partition = %origin, %reason, "partition is stopped");
                    }
                    if reason.is_asked_about_again() {
                        self.asked_again.insert(origin);
                    }
                }
            }
        }
        kill_point("inbox.in_assign");
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
            self.status.removed(self.group_name(), origin);
        }
        self.asked_again.retain(|origin| !partitions.contains(origin));
        self.floods.retain(|origin, _| !partitions.contains(origin));
        self.reading.retain(|origin, _| !partitions.contains(origin));
        if lost {
            // An assignment that was not answered is lost as well.
            self.loading = JoinSet::new();
        }
        self.board.revoked(rebalance, partitions, lost, Instant::now() + self.shared.settings.revoke_grace);
        if !partitions.is_empty() {
            kill_point("inbox.in_revoke");
        }
    }
}
