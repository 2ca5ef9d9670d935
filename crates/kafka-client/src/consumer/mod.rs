//! A consumer on a thread of its own that reports events and obeys commands.
//!
//! Invariants: a partition is read from exactly the offset that its owner names, never from one that Kafka stores; it
//! is given back only after the owner said so, unless it was lost; no batch is handed over that was not wanted, and at most
//! one of a partition that is not done. Deliberately absent: what records mean, and where offsets are kept.

mod batch;
mod chunks;
mod context;
mod lane;
mod poll;
mod settings;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

pub use batch::{HeaderIter, RecordBatch, RecordRef, RecordTime, TopicPartition};
pub use settings::ConsumerSettings;

use crate::admin::Watermarks;
use crate::topic_id::{TopicId, describe_topics};
use chunks::ChunkPool;
use context::Context;
use poll::{PollState, PollThread};

/// How long a question for watermarks may take.
const WATERMARKS_TIMEOUT: Duration = Duration::from_secs(10);

/// What the poll thread reports, in order.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// The group gives these partitions to this consumer. Nothing else happens in the group until
    /// [`Consumer::assign`] answers `rebalance`.
    Assigned {
        /// Number to answer with.
        rebalance: u64,
        /// The new ones; may be empty.
        partitions: Vec<TopicPartition>,
    },
    /// The group takes these partitions away; no more batches of them follow. Unless they are lost,
    /// [`Consumer::unassign`] must answer `rebalance`.
    Revoked {
        /// Number to answer with.
        rebalance: u64,
        /// Those that go.
        partitions: Vec<TopicPartition>,
        /// They may already belong to another consumer.
        lost: bool,
    },
    /// Records of one partition, one of the batches that [`Consumer::want`] asked for; the next batch of the partition
    /// follows after [`Consumer::done`].
    Batch(RecordBatch),
    /// Everything up to the end of the partition's log was handed over.
    ReachedEnd {
        /// The partition.
        origin: TopicPartition,
        /// As given to [`Consumer::assign`] or [`Consumer::seek`].
        generation: u64,
    },
    /// The log does not have the offset at which reading was to go on. The partition is not read any more.
    OutOfRange {
        /// The partition.
        origin: TopicPartition,
        /// As given to [`Consumer::assign`] or [`Consumer::seek`].
        generation: u64,
    },
    /// About once a second.
    Observed {
        /// Ends of the logs that are read, as far as known.
        ends: Vec<(TopicPartition, i64)>,
        /// Whether it is a settled member of its group.
        is_member: bool,
    },
    /// The group does not know this consumer any more; a new one may go on. Another process has taken its static
    /// name, or the session ran out while the brokers were away and a commit was still on its way.
    Fenced(String),
    /// The consumer cannot go on; a new one is needed.
    Failed(String),
}

/// Where reading of a partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The partition.
    pub origin: TopicPartition,
    /// The first offset to read.
    pub offset: i64,
    /// Comes back with every batch, so that older batches are known.
    pub generation: u64,
}

/// Why there is no consumer.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// The client library does not take the settings.
    #[error("consumer settings are not usable")]
    Settings(#[source] KafkaError),
    /// The topics cannot be subscribed.
    #[error("consumer cannot subscribe")]
    Subscribe(#[source] KafkaError),
    /// The system gives no thread.
    #[error("consumer has no thread")]
    Thread(#[source] std::io::Error),
}

/// Why watermarks are not known.
#[derive(Debug, Error)]
pub enum WatermarksError {
    /// The brokers do not answer.
    #[error("watermarks are not known")]
    Ask(#[source] KafkaError),
    /// The consumer is closed.
    #[error("consumer is closed")]
    Closed,
}

#[derive(Debug)]
enum Command {
    Assign { rebalance: Option<u64>, starts: Vec<Start> },
    Unassign { rebalance: u64 },
    Seek(Start),
    StopPartition(TopicPartition),
    Want(usize),
    Done { origin: TopicPartition, generation: u64 },
    Commit { origin: TopicPartition, offset: i64 },
    Stop,
}

#[derive(Debug, Default)]
struct Waker {
    thread: OnceLock<Thread>,
}

impl Waker {
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The poll thread's handle. Dropping it stops the thread and leaves the group, without waiting.
pub struct Consumer {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    ticks: Arc<AtomicU64>,
    native: Weak<BaseConsumer<Context>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Consumer {
    /// Subscribes and starts the thread; does not wait for a broker.
    ///
    /// # Errors
    /// Settings that the client library refuses, or no thread.
    pub fn start(
        settings: ConsumerSettings,
    ) -> Result<(Self, UnboundedReceiver<ConsumerEvent>), ConsumerError> {
        let (events, receiver) = unbounded_channel();
        let waker = Arc::new(Waker::default());
        let mut native: BaseConsumer<Context> =
            settings.config().create_with_context(Context::new(events)).map_err(ConsumerError::Settings)?;
        let wake = Arc::clone(&waker);
        native.set_nonempty_callback(move || wake.wake());
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        native.subscribe(&topics).map_err(ConsumerError::Subscribe)?;
        let native = Arc::new(native);
        let (commands, command_receiver) = channel();
        let (end, ended) = oneshot::channel();
        let ticks = Arc::new(AtomicU64::new(0));
        let consumer = Self {
            commands,
            waker: Arc::clone(&waker),
            ticks: Arc::clone(&ticks),
            native: Arc::downgrade(&native),
            ended: Some(ended),
        };
        let name = format!("consumer {}", settings.group);
        let thread = PollThread {
            pool: ChunkPool::new(settings.buffer_bytes_max),
            settings,
            consumer: native,
            commands: command_receiver,
            waker: Arc::clone(&waker),
            ticks,
            state: PollState::default(),
        };
        let spawned = thread::Builder::new().name(name).spawn(move || {
            waker.thread.get_or_init(thread::current);
            thread.run();
            // Whoever waited may have given up.
            let _ = end.send(());
        });
        spawned.map_err(ConsumerError::Thread)?;
        Ok((consumer, receiver))
    }

    /// Begins to read partitions. With a `rebalance` it answers [`ConsumerEvent::Assigned`], also if `starts` has only
    /// some of its partitions, or none; without, it starts those that were left out.
    pub fn assign(&self, rebalance: Option<u64>, starts: Vec<Start>) {
        self.command(Command::Assign { rebalance, starts });
    }

    /// Answers [`ConsumerEvent::Revoked`].
    pub fn unassign(&self, rebalance: u64) {
        self.command(Command::Unassign { rebalance });
    }

    /// Drops what was read of a partition and goes on at another offset.
    pub fn seek(&self, start: Start) {
        self.command(Command::Seek(start));
    }

    /// Reads no more of a partition, which stays given to this consumer.
    pub fn stop_partition(&self, origin: TopicPartition) {
        self.command(Command::StopPartition(origin));
    }

    /// So many more batches may be handed over, of whichever partitions; until then they grow. None comes unless it is wanted.
    pub fn want(&self, batches: usize) {
        self.command(Command::Want(batches));
    }

    /// The batch of this partition and generation is done: the next one may come.
    pub fn done(&self, origin: TopicPartition, generation: u64) {
        self.command(Command::Done { origin, generation });
    }

    /// Tells the broker how far the partition is, within a second; for lag tools only.
    pub fn commit(&self, origin: TopicPartition, offset: i64) {
        self.command(Command::Commit { origin, offset });
    }

    /// Grows while the poll thread lives, several times a second.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Asks for watermarks through this consumer's connections.
    #[must_use]
    pub fn watermark_reader(&self) -> WatermarkReader {
        WatermarkReader { native: self.native.clone() }
    }

    /// Leaves the group and waits for the thread, for `deadline` at most. Answers whether it ended.
    pub async fn close(mut self, deadline: Duration) -> bool {
        self.command(Command::Stop);
        match self.ended.take() {
            Some(ended) => tokio::time::timeout(deadline, ended).await.is_ok(),
            None => true,
        }
    }

    fn command(&self, command: Command) {
        // A thread that has ended needs no commands.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

/// Asks for watermarks; does not keep the consumer open.
#[derive(Clone)]
pub struct WatermarkReader {
    native: Weak<BaseConsumer<Context>>,
}

impl WatermarkReader {
    /// Log start and end of a partition, asked from its leader.
    ///
    /// # Errors
    /// No answer within 10 s, or the consumer is closed.
    pub async fn read(&self, origin: &TopicPartition) -> Result<Watermarks, WatermarksError> {
        let (native, origin) = (self.native.clone(), origin.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let native = native.upgrade().ok_or(WatermarksError::Closed)?;
            native
                .fetch_watermarks(&origin.topic, origin.partition, WATERMARKS_TIMEOUT)
                .map_err(WatermarksError::Ask)
        });
        let (low, high) = asked.await.map_err(|_| WatermarksError::Closed)??;
        Ok(Watermarks { low, high })
    }

    /// The ids of topics; those that do not exist are left out.
    ///
    /// # Errors
    /// No answer within 10 s, or the consumer is closed.
    pub async fn topic_ids(
        &self,
        topics: BTreeSet<String>,
    ) -> Result<BTreeMap<String, TopicId>, WatermarksError> {
        let native = self.native.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let native = native.upgrade().ok_or(WatermarksError::Closed)?;
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            describe_topics(native.client(), &names, WATERMARKS_TIMEOUT).map_err(WatermarksError::Ask)
        });
        asked.await.map_err(|_| WatermarksError::Closed)?
    }
}

impl std::fmt::Debug for WatermarkReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WatermarkReader").finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.command(Command::Stop);
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Consumer").field("ticks", &self.ticks()).finish_non_exhaustive()
    }
}
