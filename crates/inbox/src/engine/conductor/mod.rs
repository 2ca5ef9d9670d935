//! Drives the board: takes events of the consumer, gives batches to workers, and does what follows from their verdicts.
//!
//! Every decision is the board's ([`Board`]); this loop has the clients, the tasks and the clock.

mod rebalance;
mod topics;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kafka_client::{Consumer, ConsumerEvent, RecordBatch, RecordRef, TopicPartition};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::board::{Board, Output, Ticket, Verdict};
use super::flood::Flood;
use super::loader::Loaded;
use super::session::Session;
use super::work::{Job, Shared};
use crate::age::{self, Aged};
use crate::kill::kill_point;
use crate::metrics::{self, Rebalanced};
use crate::projection::Projection;
use crate::status::StreamerStatus;
use crate::streamer::StreamerError;
use topics::TopicIds;

/// How often stopped partitions and topics are asked about, and signs of life are looked at.
const TICK: Duration = Duration::from_secs(2);
/// How long the consumer may take to leave its group.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

type Worked<E> = (Session, Job<E>, Verdict);

/// What may happen next.
enum Next<E> {
    Event(Option<ConsumerEvent>),
    Worked(Box<Result<(Id, Worked<E>), JoinError>>),
    Loaded(Result<Loaded, JoinError>),
    TopicIds(Result<TopicIds, JoinError>),
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
    board: Board<Job<P::Event>>,
    idle: Vec<Session>,
    /// Batches that the consumer was asked for and that have not come.
    wanted: usize,
    working: JoinSet<Worked<P::Event>>,
    workers: HashMap<Id, (Ticket, AbortHandle)>,
    loading: JoinSet<Loaded>,
    /// Dead letters of each partition, as far as this process has read it.
    floods: HashMap<TopicPartition, Flood>,
    /// Stopped partitions that are asked about again: what stops them can be mended from outside.
    asked_again: BTreeSet<TopicPartition>,
    /// Partitions that are read, with the topic's id from when they began.
    reading: BTreeMap<TopicPartition, Uuid>,
    asking: JoinSet<TopicIds>,
}

impl<P: Projection> Conductor<P> {
    pub(crate) fn new(
        shared: Arc<Shared<P>>,
        options: PgConnectOptions,
        consumer: Consumer,
        events: UnboundedReceiver<ConsumerEvent>,
        status: Arc<StreamerStatus>,
    ) -> Self {
        let limit = shared.settings.transaction_timeout;
        let idle = (0..shared.settings.workers).map(|_| Session::new(&options, limit)).collect();
        Self {
            shared,
            options,
            consumer,
            events,
            status,
            group: 0,
            board: Board::new(),
            idle,
            wanted: 0,
            working: JoinSet::new(),
            workers: HashMap::new(),
            loading: JoinSet::new(),
            floods: HashMap::new(),
            asked_again: BTreeSet::new(),
            reading: BTreeMap::new(),
            asking: JoinSet::new(),
        }
    }

    /// Works until `stop`, then lets running batches end and leaves the group.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), StreamerError> {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            self.act();
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
                Next::TopicIds(ids) => self.told_topic_ids(&ids.map_err(StreamerError::Task)?),
                Next::Tick => self.tick(),
                Next::Deadline => self.board.passed(Instant::now()),
                Next::Stop => break,
            }
        }
        self.drain().await;
        Ok(())
    }

    async fn next(&mut self, stop: &CancellationToken, ticks: &mut tokio::time::Interval) -> Next<P::Event> {
        let deadline = self.board.deadline();
        tokio::select! {
            () = stop.cancelled() => Next::Stop,
            event = self.events.recv() => Next::Event(event),
            Some(worked) = self.working.join_next_with_id() => Next::Worked(Box::new(worked)),
            Some(loaded) = self.loading.join_next() => Next::Loaded(loaded),
            Some(ids) = self.asking.join_next() => Next::TopicIds(ids),
            _ = ticks.tick() => Next::Tick,
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Next::Deadline,
        }
    }

    /// Gives ready batches to idle workers, and asks for a batch for each that is left: one that is not worked on had better
    /// grow.
    fn dispatch(&mut self) {
        while let Some(mut session) = self.idle.pop() {
            let Some((ticket, mut job)) = self.board.next_job() else {
                self.idle.push(session);
                break;
            };
            let shared = Arc::clone(&self.shared);
            let abort = self.working.spawn(async move {
                let verdict = job.work(&mut session, &shared).await;
                (session, job, verdict)
            });
            self.workers.insert(abort.id(), (ticket, abort));
        }
        let lacking = self.idle.len().saturating_sub(self.wanted);
        if lacking > 0 {
            self.wanted += lacking;
            self.consumer.want(lacking);
        }
    }

    /// Does what the board has decided.
    fn act(&mut self) {
        while let Some(output) = self.board.next_output() {
            match output {
                Output::Commit { origin, next } => self.consumer.commit(origin, next),
                Output::Moved { origin, generation, next } => {
                    self.status.moved(&origin, next);
                    self.consumer.done(origin, generation);
                }
                Output::Fenced { origin, stored } => {
                    metrics::fenced(self.group_name());
                    tracing::warn!(partition = %origin, stored, "another owner moved the offset");
                }
                Output::Seek(start) => {
                    self.status.moved(&start.origin, start.offset);
                    self.consumer.seek(start);
                }
                Output::Retrying { origin, attempts, error } => {
                    metrics::retried(self.group_name());
                    tracing::warn!(partition = %origin, attempts, error, "batch is tried again");
                    self.status.retrying(&origin, error);
                }
                Output::Stopped { origin, reason } => {
                    tracing::error!(partition = %origin, %reason, "partition is stopped");
                    self.floods.remove(&origin);
                    self.reading.remove(&origin);
                    if reason.is_asked_about_again() {
                        self.asked_again.insert(origin.clone());
                    }
                    self.status.stopped(&origin, reason);
                    self.consumer.stop_partition(origin);
                }
                Output::Abort(ticket) => {
                    tracing::warn!(?ticket, "batch is given up: its partition is taken away");
                    let given_up = self.workers.values().filter(|(working, _)| *working == ticket);
                    given_up.for_each(|(_, abort)| abort.abort());
                }
                Output::Unassign { rebalance } => self.consumer.unassign(rebalance),
            }
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
                if self.board.is_current(&origin, generation) {
                    self.status.at_end(&origin, true);
                }
            }
            ConsumerEvent::OutOfRange { origin, generation } => self.board.out_of_range(&origin, generation),
            ConsumerEvent::Observed { ends, is_member } => {
                let group = &self.shared.settings.kafka.group;
                self.status.observed(group, ends, is_member);
            }
            // They end the loop before they come here.
            ConsumerEvent::Failed(_) | ConsumerEvent::Fenced(_) => {}
        }
    }

    fn batch(&mut self, batch: RecordBatch) {
        self.wanted = self.wanted.saturating_sub(1);
        let (origin, generation) = (batch.origin.clone(), batch.generation);
        let Some(expected) = self.board.wants(&origin, generation) else { return };
        kill_point("inbox.after_poll");
        self.status.at_end(&origin, false);
        self.note_read(&batch);
        let flood = self.floods.get(&origin).copied().unwrap_or_default();
        match Job::new(batch, self.group, expected, flood) {
            Some(job) => self.board.batch(&origin, job),
            None => self.consumer.done(origin, generation),
        }
    }

    fn note_read(&self, batch: &RecordBatch) {
        let now = SystemTime::now();
        let ends = (batch.get(0), batch.len().checked_sub(1).and_then(|last| batch.get(last)));
        if let (Some(first), Some(last)) = ends {
            let aged = |record: RecordRef<'_>| age::stamp(record.time).map(|stamp| Aged::of(stamp, now));
            self.status.read(&batch.origin, aged(first), (last.offset, aged(last)));
        }
    }

    fn worked(&mut self, worked: Result<(Id, Worked<P::Event>), JoinError>) {
        let id = match &worked {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let ticket = self.workers.remove(&id).map(|(ticket, _)| ticket);
        match worked {
            Ok((_, (session, job, verdict))) => {
                self.idle.push(session);
                if let Verdict::Done { .. } = &verdict {
                    self.floods.insert(job.origin.clone(), job.flood());
                }
                if let Some(ticket) = ticket {
                    self.board.judged(ticket, job, verdict, Instant::now());
                }
            }
            Err(error) => {
                self.idle.push(Session::new(&self.options, self.shared.settings.transaction_timeout));
                if error.is_panic() {
                    tracing::error!(%error, "worker panicked");
                }
                if let Some(ticket) = ticket {
                    self.board.vanished(ticket);
                }
            }
        }
    }

    fn tick(&mut self) {
        self.status.ticked(self.consumer.ticks());
        self.status.report_lag_age(self.group_name());
        self.ask_topic_ids();
        if !self.asked_again.is_empty() && self.loading.is_empty() {
            let partitions = std::mem::take(&mut self.asked_again);
            self.load(None, partitions.into_iter().collect());
        }
    }

    /// Running batches may end; those that wait are dropped, and read again by whoever comes next.
    async fn drain(mut self) {
        kill_point("inbox.in_shutdown");
        let deadline = Instant::now() + self.shared.settings.shutdown_grace;
        while !self.working.is_empty() {
            match tokio::time::timeout_at(deadline, self.working.join_next_with_id()).await {
                Ok(Some(worked)) => {
                    self.worked(worked);
                    self.act();
                }
                Ok(None) | Err(_) => break,
            }
        }
        self.working.shutdown().await;
        if !self.consumer.close(CLOSE_GRACE).await {
            tracing::warn!("consumer did not leave its group in time");
        }
    }

    fn group_name(&self) -> &str {
        &self.shared.settings.kafka.group
    }
}
