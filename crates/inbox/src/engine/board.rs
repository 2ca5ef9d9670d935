//! The life of every partition, from its assignment to its release, and what follows from what happens to it. Pure:
//! what happens comes in by calls, what is to be done goes out by [`Board::next_output`].
//!
//! Invariants: at most one batch of a partition's generation is ready, with a worker, or waiting for its next attempt, so
//! batches of a partition commit in order, whichever worker takes them; a partition whose batch keeps failing occupies
//! no worker between its attempts; a verdict on an older generation moves nothing; a revocation is answered when no
//! worker has a batch of its partitions any more, or when its grace is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kafka_client::{Start, TopicPartition};
use tokio::time::Instant;

use crate::stop_reason::StopReason;

/// First and longest wait before a batch is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What a worker did with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything is committed; reading goes on at this offset.
    Done { next: i64 },
    /// Another owner moved the offset to here.
    Fenced { stored: i64 },
    /// Something that passes.
    Retry(String),
    /// The partition must stop; everything before `next`, if it is known, is committed.
    Halt { next: Option<i64>, reason: StopReason },
}

/// A batch that is with a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Tell lag tools how far the partition is.
    Commit { origin: TopicPartition, next: i64 },
    /// The stored offset is here; the next batch may come.
    Moved { origin: TopicPartition, generation: u64, next: i64 },
    /// Another owner had moved the offset; a [`Output::Seek`] follows.
    Fenced { origin: TopicPartition, stored: i64 },
    /// Drop what was read and go on from here.
    Seek(Start),
    /// The batch is tried again later.
    Retrying { origin: TopicPartition, attempts: u32, error: String },
    /// The partition is read no more.
    Stopped { origin: TopicPartition, reason: StopReason },
    /// Give up the work on a batch: its partition may belong to somebody else.
    Abort(Ticket),
    /// Nothing of the revoked partitions is under way any more.
    Unassign { rebalance: u64 },
}

/// What a partition's owner is doing with it.
#[derive(Debug)]
enum Stage<J> {
    /// Waiting for a batch.
    Idle,
    /// A batch waits for a worker.
    Ready(Attempted<J>),
    /// A worker has the batch.
    Working,
    /// The batch waits for its next attempt.
    Waiting { until: Instant, job: Attempted<J> },
    /// Somebody has to decide.
    Stopped,
}

/// A batch and how often it was tried.
#[derive(Debug)]
struct Attempted<J> {
    job: J,
    attempts: u32,
}

#[derive(Debug)]
struct Partition<J> {
    generation: u64,
    /// The stored offset, as far as this process knows.
    expected: i64,
    stage: Stage<J>,
}

#[derive(Debug)]
struct Working {
    origin: TopicPartition,
    generation: u64,
    attempts: u32,
}

#[derive(Debug)]
struct Revocation {
    rebalance: u64,
    waits_for: BTreeSet<Ticket>,
    deadline: Instant,
}

/// Every assigned partition; `J` is a batch with the work to be done on it.
#[derive(Debug)]
pub(crate) struct Board<J> {
    generation: u64,
    tickets: u64,
    partitions: BTreeMap<TopicPartition, Partition<J>>,
    /// Partitions with a ready batch, in the order of their turn.
    turns: VecDeque<TopicPartition>,
    working: BTreeMap<Ticket, Working>,
    revocations: Vec<Revocation>,
    outputs: VecDeque<Output>,
}

impl<J> Board<J> {
    pub(crate) fn new() -> Self {
        Self {
            generation: 0,
            tickets: 0,
            partitions: BTreeMap::new(),
            turns: VecDeque::new(),
            working: BTreeMap::new(),
            revocations: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The partition is this process's from `offset` on.
    pub(crate) fn assigned(&mut self, origin: TopicPartition, offset: i64) -> Start {
        let generation = self.insert(&origin, offset, Stage::Idle);
        Start { origin, offset, generation }
    }

    /// The partition is this process's, but it cannot be read.
    pub(crate) fn assigned_stopped(&mut self, origin: &TopicPartition, stored: i64) {
        self.insert(origin, stored, Stage::Stopped);
    }

    fn insert(&mut self, origin: &TopicPartition, expected: i64, stage: Stage<J>) -> u64 {
        self.generation += 1;
        self.partitions.insert(origin.clone(), Partition { generation: self.generation, expected, stage });
        self.generation
    }

    /// Whether the partition is this process's.
    pub(crate) fn has(&self, origin: &TopicPartition) -> bool {
        self.partitions.contains_key(origin)
    }

    /// Whether this is the partition's present generation.
    pub(crate) fn is_current(&self, origin: &TopicPartition, generation: u64) -> bool {
        self.partitions.get(origin).is_some_and(|partition| partition.generation == generation)
    }

    /// The stored offset of a partition that waits for a batch of this generation.
    pub(crate) fn wants(&self, origin: &TopicPartition, generation: u64) -> Option<i64> {
        let partition = self.partitions.get(origin).filter(|found| found.generation == generation)?;
        matches!(partition.stage, Stage::Idle).then_some(partition.expected)
    }

    /// A batch of a partition that [`Self::wants`] it.
    pub(crate) fn batch(&mut self, origin: &TopicPartition, job: J) {
        if let Some(partition) = self.partitions.get_mut(origin)
            && matches!(partition.stage, Stage::Idle)
        {
            partition.stage = Stage::Ready(Attempted { job, attempts: 0 });
            self.turns.push_back(origin.clone());
        }
    }

    /// A batch for a worker that has nothing to do.
    pub(crate) fn next_job(&mut self) -> Option<(Ticket, J)> {
        loop {
            let origin = self.turns.pop_front()?;
            let Some(partition) = self.partitions.get_mut(&origin) else { continue };
            match std::mem::replace(&mut partition.stage, Stage::Working) {
                Stage::Ready(Attempted { job, attempts }) => {
                    self.tickets += 1;
                    let ticket = Ticket(self.tickets);
                    let generation = partition.generation;
                    self.working.insert(ticket, Working { origin, generation, attempts });
                    return Some((ticket, job));
                }
                // Its turn was left over from before a revocation or a stop.
                other => partition.stage = other,
            }
        }
    }

    /// A worker is done with a batch.
    pub(crate) fn judged(&mut self, ticket: Ticket, job: J, verdict: Verdict, now: Instant) {
        let Some(Working { origin, generation, attempts }) = self.ended(ticket) else { return };
        if let Verdict::Done { next } | Verdict::Halt { next: Some(next), .. } = verdict {
            // Also for a partition that is being taken away: lag tools see the truth a little earlier.
            self.outputs.push_back(Output::Commit { origin: origin.clone(), next });
        }
        let Some(partition) = self.partitions.get_mut(&origin).filter(|found| found.generation == generation)
        else {
            return;
        };
        match verdict {
            // A partition that was stopped meanwhile stays so.
            Verdict::Done { next } => {
                partition.expected = next;
                if matches!(partition.stage, Stage::Working) {
                    partition.stage = Stage::Idle;
                }
                self.outputs.push_back(Output::Moved { origin, generation, next });
            }
            Verdict::Fenced { stored } => {
                self.outputs.push_back(Output::Fenced { origin: origin.clone(), stored });
                self.read_again(&origin, stored);
            }
            Verdict::Retry(error) => {
                if matches!(partition.stage, Stage::Working) {
                    let until = now + RETRY_FIRST.saturating_mul(1 << attempts.min(10)).min(RETRY_MAX);
                    let attempts = attempts + 1;
                    partition.stage = Stage::Waiting { until, job: Attempted { job, attempts } };
                    self.outputs.push_back(Output::Retrying { origin, attempts, error });
                }
            }
            Verdict::Halt { next, reason } => {
                if let Some(next) = next {
                    partition.expected = next;
                    self.outputs.push_back(Output::Moved { origin: origin.clone(), generation, next });
                }
                self.stop(&origin, reason);
            }
        }
    }

    /// The worker is gone, and the batch with it; it is read again.
    pub(crate) fn vanished(&mut self, ticket: Ticket) {
        let Some(Working { origin, generation, .. }) = self.ended(ticket) else { return };
        if let Some(partition) = self.partitions.get(&origin).filter(|found| found.generation == generation) {
            let expected = partition.expected;
            self.read_again(&origin, expected);
        }
    }

    fn ended(&mut self, ticket: Ticket) -> Option<Working> {
        let ended = self.working.remove(&ticket);
        for revocation in &mut self.revocations {
            revocation.waits_for.remove(&ticket);
        }
        self.answer_revocations();
        ended
    }

    fn read_again(&mut self, origin: &TopicPartition, offset: i64) {
        let Some(partition) = self.partitions.get_mut(origin) else { return };
        if matches!(partition.stage, Stage::Stopped) {
            return;
        }
        self.generation += 1;
        *partition = Partition { generation: self.generation, expected: offset, stage: Stage::Idle };
        let start = Start { origin: origin.clone(), offset, generation: self.generation };
        self.outputs.push_back(Output::Seek(start));
    }

    /// The log does not have what should be read next.
    pub(crate) fn out_of_range(&mut self, origin: &TopicPartition, generation: u64) {
        if let Some(partition) = self.partitions.get(origin).filter(|found| found.generation == generation) {
            let expected = partition.expected;
            self.stop(origin, StopReason::OutOfRange(expected));
        }
    }

    /// Nothing is read until somebody has decided; a batch that is with a worker may still end.
    pub(crate) fn stop(&mut self, origin: &TopicPartition, reason: StopReason) {
        if let Some(partition) = self.partitions.get_mut(origin) {
            partition.stage = Stage::Stopped;
            self.outputs.push_back(Output::Stopped { origin: origin.clone(), reason });
        }
    }

    /// The group takes partitions away; unless they are lost, the answer waits for their batches, until `deadline`.
    pub(crate) fn revoked(
        &mut self,
        rebalance: u64,
        partitions: &[TopicPartition],
        lost: bool,
        deadline: Instant,
    ) {
        for origin in partitions {
            self.partitions.remove(origin);
        }
        let taken = self.working.iter().filter(|(_, working)| partitions.contains(&working.origin));
        let waits_for: BTreeSet<Ticket> = taken.map(|(ticket, _)| *ticket).collect();
        if lost {
            self.outputs.extend(waits_for.into_iter().map(Output::Abort));
        } else {
            self.revocations.push(Revocation { rebalance, waits_for, deadline });
            self.answer_revocations();
        }
    }

    fn answer_revocations(&mut self) {
        let outputs = &mut self.outputs;
        self.revocations.retain(|revocation| {
            let is_drained = revocation.waits_for.is_empty();
            if is_drained {
                outputs.push_back(Output::Unassign { rebalance: revocation.rebalance });
            }
            !is_drained
        });
    }

    /// When [`Self::passed`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let retries = self.partitions.values().filter_map(|partition| match partition.stage {
            Stage::Waiting { until, .. } => Some(until),
            Stage::Idle | Stage::Ready(_) | Stage::Working | Stage::Stopped => None,
        });
        retries.chain(self.revocations.iter().map(|revocation| revocation.deadline)).min()
    }

    /// Time has passed: batches get their next attempt, and revocations that were held up for too long are answered.
    pub(crate) fn passed(&mut self, now: Instant) {
        for (origin, partition) in &mut self.partitions {
            if matches!(partition.stage, Stage::Waiting { until, .. } if until <= now)
                && let Stage::Waiting { job, .. } = std::mem::replace(&mut partition.stage, Stage::Idle)
            {
                partition.stage = Stage::Ready(job);
                self.turns.push_back(origin.clone());
            }
        }
        for revocation in self.revocations.iter_mut().filter(|revocation| revocation.deadline <= now) {
            // The aborted workers may still hold their partitions' rows for a moment; the fence keeps it right.
            self.outputs.extend(std::mem::take(&mut revocation.waits_for).into_iter().map(Output::Abort));
        }
        self.answer_revocations();
    }
}
