//! The poll thread: takes records, hands over batches, answers rebalances.
//!
//! It never waits for anybody: until a batch is wanted, it is filled up to its limits, and then the partition's records wait in
//! the client library's queue, which bounds its fetches. The main queue is served in every round, so that the group
//! never takes the process for dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::chunks::ChunkPool;
use super::context::{Context, Rebalance, list};
use super::lane::{Lane, Trouble, Turn};
use super::share::Budget;
use super::{Command, ConsumerEvent, ConsumerSettings, Start, TopicPartition, Waker};
use crate::failpoint::kill_point;

/// Longest sleep of the thread: how stale its sign of life may be.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Offsets are told to the broker at most so often.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a seek may take; it is repeated until it succeeds.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct PollThread {
    pub(super) settings: ConsumerSettings,
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) commands: Receiver<Command>,
    pub(super) waker: Arc<Waker>,
    pub(super) ticks: Arc<AtomicU64>,
    pub(super) pool: ChunkPool,
    pub(super) state: PollState,
}

#[derive(Default)]
pub(super) struct PollState {
    lanes: BTreeMap<TopicPartition, Lane>,
    assigned: BTreeSet<TopicPartition>,
    /// The rebalance that waits for an answer.
    pending: Option<Pending>,
    rebalances: u64,
    /// Partitions that were started apart from a rebalance, while one is pending.
    late: Vec<Start>,
    uncommitted: BTreeMap<TopicPartition, i64>,
    committed_at: Option<Instant>,
    /// Batches that may be handed over.
    wanted: usize,
    is_fatal: bool,
}

enum Pending {
    Assign { number: u64 },
    Revoke { number: u64, partitions: Vec<TopicPartition> },
}

impl PollThread {
    pub(super) fn run(mut self) {
        loop {
            self.ticks.fetch_add(1, Ordering::Relaxed);
            if !self.serve_commands() {
                break;
            }
            self.serve_main_queue();
            self.serve_rebalances();
            self.seek_lanes();
            let may_be_more = self.take_turns();
            let is_busy = self.hand_over() || may_be_more;
            self.commit(false);
            if !is_busy {
                thread::park_timeout(self.pause());
            }
        }
        self.commit(true);
        self.consumer.context().close();
        // Their queues hold the consumer, which leaves the group when it is dropped.
        self.state.lanes.clear();
    }

    /// Whether to go on.
    fn serve_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
                Ok(Command::Done { origin, generation }) => {
                    if let Some(lane) = self.state.lanes.get_mut(&origin) {
                        lane.done(generation);
                    }
                }
                Ok(Command::Want(batches)) => self.state.wanted += batches,
                Ok(Command::Assign { rebalance, starts }) => self.answer_assign(rebalance, starts),
                Ok(Command::Unassign { rebalance }) => self.answer_revoke(rebalance),
                Ok(Command::Seek(start)) => {
                    if let Some(lane) = self.state.lanes.get_mut(&start.origin) {
                        lane.restart(start.offset, start.generation);
                    }
                }
                Ok(Command::StopPartition(origin)) => self.stop_partition(&origin),
                Ok(Command::Commit { origin, offset }) => {
                    self.state.uncommitted.insert(origin, offset);
                }
            }
        }
    }

    fn serve_main_queue(&mut self) {
        // Bounded, so that a stream of errors does not keep the thread here.
        for _ in 0..64 {
            match self.consumer.poll(Duration::ZERO) {
                None => return,
                Some(Err(error)) => self.report(&error),
                // Every assigned partition's queue is split off before it is assigned.
                Some(Ok(_)) => tracing::error!("a record came by the main queue and was left"),
            }
        }
    }

    fn report(&mut self, error: &KafkaError) {
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        if !is_fatal {
            tracing::warn!(%error, "kafka consumer reports an error");
        } else if !std::mem::replace(&mut self.state.is_fatal, true) {
            self.fatal(error);
        }
    }

    fn fatal(&self, error: &KafkaError) {
        let detail = self.consumer.client().fatal_error();
        let is_fenced = detail.as_ref().is_some_and(|(code, _)| *code == RDKafkaErrorCode::FencedInstanceId);
        let text = detail.map_or_else(|| error.to_string(), |(code, text)| format!("{code}: {text}"));
        self.send(if is_fenced { ConsumerEvent::Fenced(text) } else { ConsumerEvent::Failed(text) });
    }

    fn serve_rebalances(&mut self) {
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            self.state.rebalances += 1;
            let number = self.state.rebalances;
            match rebalance {
                Rebalance::Assign(partitions) => {
                    self.state.pending = Some(Pending::Assign { number });
                    self.send(ConsumerEvent::Assigned { rebalance: number, partitions });
                }
                Rebalance::Revoke { partitions, lost } => {
                    kill_point("consumer.before_revoke");
                    for origin in &partitions {
                        self.state.lanes.remove(origin);
                    }
                    self.state.late.retain(|start| !partitions.contains(&start.origin));
                    self.state.pending = Some(Pending::Revoke { number, partitions: partitions.clone() });
                    if lost {
                        for origin in &partitions {
                            self.state.uncommitted.remove(origin);
                        }
                        self.answer_revoke(number);
                    }
                    self.send(ConsumerEvent::Revoked { rebalance: number, partitions, lost });
                }
            }
        }
    }

    fn answer_assign(&mut self, rebalance: Option<u64>, starts: Vec<Start>) {
        let is_answer = match (&self.state.pending, rebalance) {
            (Some(Pending::Assign { number }), Some(answered)) if *number == answered => true,
            // The rebalance was overtaken by a loss.
            (_, Some(_)) => return,
            (None, None) => false,
            (Some(_), None) => {
                self.state.late.extend(starts);
                return;
            }
        };
        if is_answer {
            self.state.pending = None;
        }
        self.begin(&starts);
        self.begin_late();
    }

    fn begin_late(&mut self) {
        if self.state.pending.is_none() && !self.state.late.is_empty() {
            let late = std::mem::take(&mut self.state.late);
            self.begin(&late);
        }
    }

    fn begin(&mut self, starts: &[Start]) {
        for start in starts {
            let waker = Arc::clone(&self.waker);
            let wake = move || waker.wake();
            let lane = Lane::new(&self.consumer, self.pool.clone(), start.clone(), wake);
            match lane {
                Some(lane) => {
                    self.state.assigned.insert(start.origin.clone());
                    self.state.lanes.insert(start.origin.clone(), lane);
                }
                None => tracing::error!(partition = %start.origin, "partition has no queue"),
            }
        }
        let begun = starts.iter().filter(|start| self.state.lanes.contains_key(&start.origin));
        let answer = list(begun.map(|start| (&start.origin, Some(start.offset))))
            .and_then(|list| self.consumer.incremental_assign(&list));
        if let Err(error) = answer {
            self.fatal(&error);
        }
    }

    fn answer_revoke(&mut self, rebalance: u64) {
        let Some(Pending::Revoke { number, partitions }) = &self.state.pending else { return };
        if *number != rebalance {
            return;
        }
        let partitions = partitions.clone();
        self.state.pending = None;
        self.commit(true);
        self.unassign(&partitions);
        self.begin_late();
    }

    /// Also answers a revocation of which nothing is assigned: the library waits for the call.
    fn unassign(&mut self, partitions: &[TopicPartition]) {
        let assigned: Vec<_> =
            partitions.iter().filter(|origin| self.state.assigned.remove(*origin)).collect();
        let answer = list(assigned.into_iter().map(|origin| (origin, None)))
            .and_then(|list| self.consumer.incremental_unassign(&list));
        if let Err(error) = answer {
            self.fatal(&error);
        }
    }

    fn stop_partition(&mut self, origin: &TopicPartition) {
        if self.state.lanes.remove(origin).is_none() {
            return;
        }
        // While a rebalance is pending, the call would be taken for its answer; the partition then only lies idle.
        if self.state.pending.is_none() {
            self.unassign(std::slice::from_ref(origin));
        }
    }

    fn seek_lanes(&mut self) {
        for lane in self.state.lanes.values_mut() {
            let Some(offset) = lane.seek else { continue };
            let origin = &lane.origin;
            match self.consumer.seek(&origin.topic, origin.partition, Offset::Offset(offset), SEEK_TIMEOUT) {
                Ok(()) => lane.seek = None,
                Err(error) => tracing::debug!(partition = %origin, %error, "seek is tried again"),
            }
        }
    }

    /// Gives each partition a turn. Answers whether there may be more.
    fn take_turns(&mut self) -> bool {
        let outstanding = self.state.lanes.values().map(Lane::outstanding).sum();
        let mut budget = Budget::new(&self.settings, outstanding);
        let mut is_busy = false;
        let mut told = Vec::new();
        for lane in by_age(&mut self.state.lanes) {
            match lane.take_turn(&mut budget) {
                Turn::Idle => {}
                Turn::More => is_busy = true,
                Turn::Told(trouble) => {
                    is_busy = true;
                    told.push((lane.origin.clone(), lane.generation(), trouble));
                }
            }
        }
        for (origin, generation, trouble) in told {
            match trouble {
                Trouble::OutOfRange => self.send(ConsumerEvent::OutOfRange { origin, generation }),
                Trouble::Passing(error) => {
                    tracing::warn!(partition = %origin, error, "partition reports an error");
                }
            }
        }
        is_busy
    }

    /// Hands over as many batches as are wanted. Answers whether that made room for others.
    fn hand_over(&mut self) -> bool {
        let mut batches = Vec::new();
        if self.state.wanted > 0 {
            let lanes = by_age(&mut self.state.lanes).into_iter();
            let due = lanes.filter_map(|lane| lane.hand_over(&self.settings));
            batches.extend(due.take(self.state.wanted));
        }
        self.state.wanted -= batches.len();
        let is_any = !batches.is_empty();
        for batch in batches {
            self.send(ConsumerEvent::Batch(batch));
        }
        for event in self.state.lanes.values_mut().filter_map(Lane::reached_end) {
            self.consumer.context().send(event);
        }
        is_any
    }

    fn commit(&mut self, now: bool) {
        let is_due = now || self.state.committed_at.is_none_or(|at| at.elapsed() >= COMMIT_INTERVAL);
        if self.state.uncommitted.is_empty() || !is_due {
            return;
        }
        let offsets = std::mem::take(&mut self.state.uncommitted);
        self.state.committed_at = Some(Instant::now());
        let sent = list(offsets.iter().map(|(origin, offset)| (origin, Some(*offset))))
            .and_then(|list| self.consumer.commit(&list, CommitMode::Async));
        if let Err(error) = sent {
            tracing::debug!(%error, "advisory commit was not sent");
        }
    }

    fn pause(&self) -> Duration {
        if self.state.wanted == 0 {
            return PAUSE_MAX;
        }
        let waits = self.state.lanes.values().filter_map(|lane| lane.wait(&self.settings));
        waits.min().unwrap_or(PAUSE_MAX).min(PAUSE_MAX)
    }

    fn send(&self, event: ConsumerEvent) {
        self.consumer.context().send(event);
    }
}

/// Partitions, the one first whose records have waited for the longest; last those of which none waits here.
fn by_age(lanes: &mut BTreeMap<TopicPartition, Lane>) -> Vec<&mut Lane> {
    let mut lanes: Vec<&mut Lane> = lanes.values_mut().collect();
    lanes.sort_by_key(|lane| (lane.since().is_none(), lane.since()));
    lanes
}
