//! One assigned partition on the poll thread: its queue, and the batch that is being filled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;

use super::chunks::ChunkPool;
use super::context::Context;
use super::share::{Budget, SHARE_RECORDS};
use super::{ConsumerEvent, ConsumerSettings, RecordBatch, Start, TopicPartition};

pub(super) struct Lane {
    pub(super) origin: TopicPartition,
    queue: PartitionQueue<Context>,
    pool: ChunkPool,
    generation: u64,
    /// Records below were handed over, or lie before the start.
    next: i64,
    filling: RecordBatch,
    /// When the first record of the batch came.
    since: Option<Instant>,
    /// More records wait, and it may take them.
    is_growing: bool,
    /// Bytes of the batch that was handed over and is not done.
    outstanding: Option<usize>,
    /// The log's end was reached and nobody was told.
    end_untold: bool,
    /// A seek that did not succeed yet.
    pub(super) seek: Option<i64>,
    is_stopped: bool,
}

/// What a turn found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing is waiting, or it may take no more.
    Idle,
    /// There may be more.
    More,
    Told(Trouble),
}

/// An error in a partition's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    OutOfRange,
    Passing(String),
}

impl Lane {
    /// The queue is split off before the assignment, or records would slip into the main queue.
    pub(super) fn new(
        consumer: &Arc<BaseConsumer<Context>>,
        pool: ChunkPool,
        Start { origin, offset: next, generation }: Start,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let mut queue = consumer.split_partition_queue(&origin.topic, origin.partition)?;
        queue.set_nonempty_callback(wake);
        let filling = RecordBatch::in_pool(origin.clone(), generation, pool.clone());
        Some(Self {
            origin,
            queue,
            pool,
            generation,
            next,
            filling,
            since: None,
            is_growing: false,
            outstanding: None,
            end_untold: false,
            seek: None,
            is_stopped: false,
        })
    }

    /// Bytes of the batch that was handed over and is not done.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.unwrap_or(0)
    }

    /// When the first record came of those that wait here, if there is one.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Drops what it holds; records from `next` on belong to `generation`.
    pub(super) fn restart(&mut self, next: i64, generation: u64) {
        self.generation = generation;
        self.filling = self.empty_batch();
        self.next = next;
        self.since = None;
        self.is_growing = false;
        self.outstanding = None;
        self.end_untold = false;
        self.is_stopped = false;
        self.seek = Some(next);
    }

    pub(super) fn done(&mut self, generation: u64) {
        if generation == self.generation {
            self.outstanding = None;
        }
    }

    /// Takes the records of one turn, as far as the budget goes.
    pub(super) fn take_turn(&mut self, budget: &mut Budget) -> Turn {
        let turn = self.take(budget);
        self.is_growing = turn == Turn::More;
        budget.spend(self.filling.len(), self.filling.byte_len());
        turn
    }

    fn take(&mut self, budget: &Budget) -> Turn {
        if self.seek.is_some() || self.is_stopped {
            return Turn::Idle;
        }
        let allowance = budget.allow(self.filling.len(), self.filling.byte_len());
        for _ in 0..SHARE_RECORDS {
            if allowance.is_used_up(self.filling.len(), self.filling.byte_len()) {
                // A batch that has used up its share may go on if there is memory for a whole one.
                let next = budget.allow(self.filling.len(), self.filling.byte_len());
                return if next == allowance { Turn::Idle } else { Turn::More };
            }
            match self.queue.poll(Duration::ZERO) {
                None => return Turn::Idle,
                // Fetched before a seek.
                Some(Ok(message)) if message.offset() < self.next => {}
                Some(Ok(message)) => {
                    self.next = message.offset() + 1;
                    self.end_untold = false;
                    self.filling.push_message(&message);
                    self.since.get_or_insert_with(Instant::now);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.end_untold = true,
                Some(Err(error)) => return Turn::Told(self.trouble(&error)),
            }
        }
        Turn::More
    }

    /// The batch, if it is time to hand it over.
    pub(super) fn hand_over(&mut self, settings: &ConsumerSettings) -> Option<RecordBatch> {
        if self.is_growing || self.wait(settings)? > Duration::ZERO {
            return None;
        }
        self.outstanding = Some(self.filling.byte_len());
        self.since = None;
        let next = self.empty_batch();
        Some(std::mem::replace(&mut self.filling, next))
    }

    fn empty_batch(&self) -> RecordBatch {
        RecordBatch::in_pool(self.origin.clone(), self.generation, self.pool.clone())
    }

    /// The news that everything up to the log's end was handed over.
    pub(super) fn reached_end(&mut self) -> Option<ConsumerEvent> {
        if !self.end_untold || !self.filling.is_empty() {
            return None;
        }
        self.end_untold = false;
        Some(ConsumerEvent::ReachedEnd { origin: self.origin.clone(), generation: self.generation })
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// How long until its batch is handed over; `None` while it has none, or another is worked on.
    pub(super) fn wait(&self, settings: &ConsumerSettings) -> Option<Duration> {
        if self.outstanding.is_some() {
            return None;
        }
        let since = self.since?;
        Some(if self.is_full(settings) {
            Duration::ZERO
        } else {
            settings.linger.saturating_sub(since.elapsed())
        })
    }

    fn is_full(&self, settings: &ConsumerSettings) -> bool {
        self.filling.len() >= settings.batch_records_max
            || self.filling.byte_len() >= settings.batch_bytes_max
    }

    fn trouble(&mut self, error: &KafkaError) -> Trouble {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.is_stopped = true;
                Trouble::OutOfRange
            }
            _ => Trouble::Passing(error.to_string()),
        }
    }
}
