//! Views that are committed at a pace while somebody looks how far the streamers are behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use outbox::AppendLimits;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::backlog::view;
use crate::drain::TOPIC;
use crate::pipeline::{Pipeline, Role};

/// Connections that write.
const WRITERS: usize = 4;
/// Time between two looks, at each of which the writers are allowed what the pace has come to.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A writer that is not allowed any more looks again after this time.
const WRITER_PAUSE: Duration = Duration::from_millis(1);
/// Longest wait until everything is handled when nothing is written any more.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// How fast is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So many events a second, whatever becomes of them.
    Rate(u64),
    /// As fast as so many events wait, and no more.
    Behind(u64),
}

/// One look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) handled: u64,
    /// Events that are committed and not handled.
    pub(super) behind: u64,
}

/// The writers; they end when it is dropped.
pub(super) struct Traffic {
    counters: Arc<Counters>,
    reader: PgConnection,
    writers: JoinSet<Result<()>>,
}

#[derive(Default)]
struct Counters {
    /// The next event.
    next: AtomicU64,
    /// Events below this number may be written.
    allowed: AtomicU64,
    committed: AtomicU64,
    /// Nothing more is written.
    is_over: AtomicBool,
}

impl Traffic {
    /// `chunk` events in each transaction.
    pub(super) async fn start(pipeline: &Pipeline, chunk: u64) -> Result<Self> {
        let (counters, mut writers) = (Arc::new(Counters::default()), JoinSet::new());
        for _ in 0..WRITERS {
            let connection = pipeline.connect().await?;
            writers.spawn(write(connection, pipeline.topic(TOPIC), chunk, Arc::clone(&counters)));
        }
        Ok(Self { counters, reader: pipeline.connect().await?, writers })
    }

    /// Writes at a pace; `look` sees each sample and ends it by an answer.
    pub(super) async fn run<T>(
        &mut self,
        pace: Pace,
        roles: &mut [Role],
        mut look: impl AsyncFnMut(&mut PgConnection, Sample) -> Result<Option<T>>,
    ) -> Result<T> {
        let (begun, before) = (Instant::now(), self.counters.committed.load(Ordering::Relaxed));
        loop {
            let sample = self.sample().await?;
            let allowed = match pace {
                Pace::Rate(rate) => before + of_time(rate, sample.at - begun)?,
                Pace::Behind(behind) => sample.handled + behind,
            };
            self.counters.allowed.store(allowed, Ordering::Relaxed);
            if let Some(answer) = look(&mut self.reader, sample).await? {
                return Ok(answer);
            }
            for role in roles.iter_mut() {
                role.ensure_running()?;
            }
            if let Some(ended) = self.writers.try_join_next() {
                ended??;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The samples of so much time.
    pub(super) async fn run_for(
        &mut self,
        length: Duration,
        pace: Pace,
        roles: &mut [Role],
    ) -> Result<Vec<Sample>> {
        let (begun, mut samples) = (Instant::now(), Vec::new());
        self.run(pace, roles, async |_, sample| {
            samples.push(sample);
            Ok((begun.elapsed() >= length).then_some(()))
        })
        .await?;
        Ok(samples)
    }

    /// Stops writing, and waits until every event is counted, each once.
    pub(super) async fn finish(mut self, roles: &mut [Role]) -> Result<()> {
        self.counters.is_over.store(true, Ordering::Relaxed);
        // What is in a transaction still is committed by then, and known.
        while let Some(ended) = self.writers.join_next().await {
            ended??;
        }
        let begun = Instant::now();
        self.run(Pace::Behind(0), roles, async |_, sample| {
            anyhow::ensure!(begun.elapsed() < DRAIN_MAX, "{} events are not handled", sample.behind);
            Ok((sample.behind == 0).then_some(()))
        })
        .await?;
        let counted: i64 = sqlx::query_scalar("select sum(view_count)::bigint from metrics.product_metrics")
            .fetch_one(&mut self.reader)
            .await?;
        let committed = self.counters.committed.load(Ordering::Relaxed);
        anyhow::ensure!(u64::try_from(counted)? == committed, "{counted} of {committed} views are counted");
        Ok(())
    }

    async fn sample(&mut self) -> Result<Sample> {
        let handled: i64 = sqlx::query_scalar("select coalesce(sum(handled), 0)::bigint from inbox.progress")
            .fetch_one(&mut self.reader)
            .await?;
        let handled = u64::try_from(handled)?;
        // Read afterwards, and still an event may be handled before its writer has heard of the commit.
        let committed = self.counters.committed.load(Ordering::Relaxed);
        Ok(Sample { at: Instant::now(), handled, behind: committed.saturating_sub(handled) })
    }
}

/// What a rate comes to in some time.
pub(super) fn of_time(rate: u64, time: Duration) -> Result<u64> {
    Ok(rate * u64::try_from(time.as_millis())? / 1_000)
}

/// Events from the first sample to the last, and the time of them.
pub(super) fn handled(samples: &[Sample]) -> Result<(u64, Duration)> {
    let (first, last) = samples.first().zip(samples.last()).context("no samples")?;
    Ok((last.handled - first.handled, last.at - first.at))
}

async fn write(
    mut connection: PgConnection,
    topic: String,
    chunk: u64,
    counters: Arc<Counters>,
) -> Result<()> {
    while !counters.is_over.load(Ordering::Relaxed) {
        let first = counters.next.fetch_add(chunk, Ordering::Relaxed);
        while counters.allowed.load(Ordering::Relaxed) < first + chunk {
            if counters.is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::time::sleep(WRITER_PAUSE).await;
        }
        let events: Vec<_> = (first..first + chunk).map(|number| view(&topic, number)).collect();
        let mut tx = connection.begin().await?;
        outbox::append(&mut tx, &events, &AppendLimits::default()).await?;
        tx.commit().await?;
        counters.committed.fetch_add(chunk, Ordering::Relaxed);
    }
    Ok(())
}
