//! The loop that owns the state of every partition: it takes events of the consumer, gives batches to workers, and
//! acts on their verdicts.
//!
//! Invariant: at most one batch of a partition is with a worker or waits for its next attempt, so batches of a
//! partition commit in order, whichever worker takes them. A partition whose batch keeps failing occupies no worker
//! between its attempts.

mod rebalance;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kafka_client::{Consumer, ConsumerEvent, RecordBatch, Start, TopicPartition};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::loader::Loaded;
use super::session::Session;
use super::work::{Job, Shared, Verdict};
use crate::metrics::{self, Rebalanced};
use crate::projection::Projection;
use crate::status::{StopReason, StreamerStatus};
use crate::streamer::StreamerError;
use rebalance::Revocation;

/// First and longest wait before a batch is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often partitions whose log start is unknown are asked about, and signs of life are looked at.
const TICK: Duration = Duration::from_secs(2);
/// How long the consumer may take to leave its group.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

type Worked<E> = (Session, Job<E>, Verdict);

struct Partition {
    generation: u64,
    /// The stored offset, as far as this process knows.
    expected: i64,
    is_stopped: bool,
}

/// A batch with a worker.
struct Running {
    origin: TopicPartition,
    generation: u64,
    abort: AbortHandle,
}

/// What may happen next.
enum Next<E> {
    Event(Option<ConsumerEvent>),
    Worked(Box<Result<(Id, Worked<E>), JoinError>>),
    Loaded(Result<Loaded, JoinError>),
    Tick,
    Deadline,
    Stop,
}

pub(crate) struct Conductor<P: Projection> {
    shared: Arc<Shared<P>>,
    options: PgConnectOptions,
    consumer: Consumer,
    events: UnboundedReceiver<ConsumerEvent>,
    status: Arc<StreamerStatus>,
    group: i16,
    generation: u64,
    partitions: HashMap<TopicPartition, Partition>,
    idle: Vec<Session>,
    ready: VecDeque<Job<P::Event>>,
    delayed: Vec<(Instant, Job<P::Event>)>,
    working: JoinSet<Worked<P::Event>>,
    running: HashMap<Id, Running>,
    loading: JoinSet<Loaded>,
    revocations: Vec<Revocation>,
    unknown: Vec<TopicPartition>,
}

impl<P: Projection> Conductor<P> {
    pub(crate) fn new(
        shared: Arc<Shared<P>>,
        options: PgConnectOptions,
        consumer: Consumer,
        events: UnboundedReceiver<ConsumerEvent>,
        status: Arc<StreamerStatus>,
    ) -> Self {
        let idle = (0..shared.settings.workers).map(|_| Session::new(&options)).collect();
        Self {
            shared,
            options,
            consumer,
            events,
            status,
            group: 0,
            generation: 0,
            partitions: HashMap::new(),
            idle,
            ready: VecDeque::new(),
            delayed: Vec::new(),
            working: JoinSet::new(),
            running: HashMap::new(),
            loading: JoinSet::new(),
            revocations: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Works until `stop`, then lets running batches end and leaves the group.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), StreamerError> {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            self.dispatch();
            match self.next(&stop, &mut ticks).await {
                Next::Event(Some(ConsumerEvent::Failed(text))) => return Err(StreamerError::Consumer(text)),
                Next::Event(Some(ConsumerEvent::Fenced(text))) => {
                    self.drain().await;
                    return Err(StreamerError::Fenced(text));
                }
                Next::Event(None) => return Err(StreamerError::Consumer("poll thread has ended".to_owned())),
                Next::Event(Some(event)) => self.serve(event),
                Next::Worked(worked) => self.worked(*worked),
                Next::Loaded(loaded) => self.loaded(loaded.map_err(StreamerError::Task)?),
                Next::Tick => self.tick(),
                Next::Deadline => self.meet_deadlines(),
                Next::Stop => break,
            }
        }
        self.drain().await;
        Ok(())
    }

    async fn next(&mut self, stop: &CancellationToken, ticks: &mut tokio::time::Interval) -> Next<P::Event> {
        let deadline = self.next_deadline();
        tokio::select! {
            () = stop.cancelled() => Next::Stop,
            event = self.events.recv() => Next::Event(event),
            Some(worked) = self.working.join_next_with_id() => Next::Worked(Box::new(worked)),
            Some(loaded) = self.loading.join_next() => Next::Loaded(loaded),
            _ = ticks.tick() => Next::Tick,
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Next::Deadline,
        }
    }

    /// Gives ready batches to idle workers.
    fn dispatch(&mut self) {
        while let Some(mut session) = self.idle.pop() {
            let Some(mut job) = self.ready.pop_front() else {
                self.idle.push(session);
                return;
            };
            let (origin, generation) = (job.origin.clone(), job.generation);
            let shared = Arc::clone(&self.shared);
            let abort = self.working.spawn(async move {
                let verdict = job.work(&mut session, &shared).await;
                (session, job, verdict)
            });
            self.running.insert(abort.id(), Running { origin, generation, abort });
        }
    }

    fn serve(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned { rebalance, partitions } => {
                metrics::rebalanced(self.group_name(), Rebalanced::Assigned);
                tracing::info!(
                    group = self.group_name(),
                    partitions = partitions.len(),
                    "partitions are assigned"
                );
                self.load(Some(rebalance), partitions);
            }
            ConsumerEvent::Revoked { rebalance, partitions, lost } => {
                self.revoke(rebalance, &partitions, lost);
            }
            ConsumerEvent::Batch(batch) => self.batch(batch),
            ConsumerEvent::ReachedEnd { origin, generation } => {
                if self.is_current(&origin, generation) {
                    self.status.at_end(&origin, true);
                }
            }
            ConsumerEvent::OutOfRange { origin, generation } => {
                if self.is_current(&origin, generation) {
                    let expected = self.partitions.get(&origin).map_or(0, |partition| partition.expected);
                    self.stop_partition(&origin, StopReason::OutOfRange(expected));
                }
            }
            ConsumerEvent::Observed { ends, is_member } => {
                let group = &self.shared.settings.kafka.group;
                self.status.observed(group, ends, is_member);
            }
            // They end the loop before they come here.
            ConsumerEvent::Failed(_) | ConsumerEvent::Fenced(_) => {}
        }
    }

    fn batch(&mut self, batch: RecordBatch) {
        let Some(partition) = self.partitions.get(&batch.origin) else { return };
        if partition.generation != batch.generation || partition.is_stopped {
            return;
        }
        self.status.at_end(&batch.origin, false);
        let (origin, generation) = (batch.origin.clone(), batch.generation);
        match Job::new(batch, self.group, partition.expected) {
            Some(job) => self.ready.push_back(job),
            None => self.consumer.done(origin, generation),
        }
    }

    fn worked(&mut self, worked: Result<(Id, Worked<P::Event>), JoinError>) {
        let id = match &worked {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let running = self.running.remove(&id);
        if let Some(running) = &running {
            for revocation in &mut self.revocations {
                revocation.waits_for.remove(&running.origin);
            }
        }
        match worked {
            Ok((_, (session, job, verdict))) => {
                self.idle.push(session);
                self.judge(job, verdict);
            }
            Err(error) => {
                self.idle.push(Session::new(&self.options));
                if let Some(running) = running.filter(|_| error.is_panic()) {
                    tracing::error!(partition = %running.origin, %error, "worker panicked");
                    self.resync_lost(&running);
                }
            }
        }
        self.answer_revocations();
    }

    /// The batch is gone with its worker: it is read again.
    fn resync_lost(&mut self, running: &Running) {
        if let Some(partition) = self.partitions.get(&running.origin)
            && partition.generation == running.generation
        {
            let expected = partition.expected;
            self.resync(&running.origin, expected);
        }
    }

    fn judge(&mut self, mut job: Job<P::Event>, verdict: Verdict) {
        let (origin, generation) = (job.origin.clone(), job.generation);
        if let Verdict::Done { next } = verdict {
            // Also for a partition that is being taken away: lag tools see the truth a little earlier.
            self.consumer.commit(origin.clone(), next);
        }
        let Some(partition) = self.partitions.get_mut(&origin).filter(|found| found.generation == generation)
        else {
            return;
        };
        match verdict {
            Verdict::Done { next } => {
                partition.expected = next;
                self.status.moved(&origin, next);
                self.consumer.done(origin, generation);
            }
            Verdict::Fenced { stored } => {
                metrics::fenced(self.group_name());
                tracing::warn!(partition = %origin, stored, "another owner moved the offset");
                self.resync(&origin, stored);
            }
            Verdict::Retry(error) => {
                metrics::retried(self.group_name());
                let pause = RETRY_FIRST.saturating_mul(1 << job.attempts.min(10)).min(RETRY_MAX);
                job.attempts += 1;
                tracing::warn!(partition = %origin, attempts = job.attempts, error, "batch is tried again");
                self.status.retrying(&origin, error);
                self.delayed.push((Instant::now() + pause, job));
            }
            Verdict::Halt => self.stop_partition(&origin, StopReason::NoProgress),
        }
    }

    /// Reads a partition again from `offset`.
    fn resync(&mut self, origin: &TopicPartition, offset: i64) {
        let Some(partition) = self.partitions.get_mut(origin) else { return };
        self.generation += 1;
        partition.generation = self.generation;
        partition.expected = offset;
        self.status.moved(origin, offset);
        self.consumer.seek(Start { origin: origin.clone(), offset, generation: self.generation });
    }

    fn stop_partition(&mut self, origin: &TopicPartition, reason: StopReason) {
        let Some(partition) = self.partitions.get_mut(origin) else { return };
        partition.is_stopped = true;
        tracing::error!(partition = %origin, %reason, "partition is stopped");
        self.status.stopped(origin, reason);
        self.consumer.stop_partition(origin.clone());
    }

    fn tick(&mut self) {
        self.status.ticked(self.consumer.ticks());
        if !self.unknown.is_empty() && self.loading.is_empty() {
            let partitions = std::mem::take(&mut self.unknown);
            self.load(None, partitions);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let retries = self.delayed.iter().map(|(at, _)| *at);
        retries.chain(self.revocations.iter().map(|revocation| revocation.deadline)).min()
    }

    fn meet_deadlines(&mut self) {
        let now = Instant::now();
        for (_, job) in self.delayed.extract_if(.., |(at, _)| *at <= now) {
            self.ready.push_back(job);
        }
        self.end_overdue(now);
    }

    /// Running batches may end; those that wait are dropped, and read again by whoever comes next.
    async fn drain(mut self) {
        self.ready.clear();
        self.delayed.clear();
        let deadline = Instant::now() + self.shared.settings.shutdown_grace;
        while !self.working.is_empty() {
            match tokio::time::timeout_at(deadline, self.working.join_next_with_id()).await {
                Ok(Some(worked)) => self.worked(worked),
                Ok(None) | Err(_) => break,
            }
        }
        self.working.shutdown().await;
        if !self.consumer.close(CLOSE_GRACE).await {
            tracing::warn!("consumer did not leave its group in time");
        }
    }

    fn is_current(&self, origin: &TopicPartition, generation: u64) -> bool {
        self.partitions.get(origin).is_some_and(|partition| partition.generation == generation)
    }

    fn group_name(&self) -> &str {
        &self.shared.settings.kafka.group
    }
}
