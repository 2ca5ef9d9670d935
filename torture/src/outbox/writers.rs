//! The traffic: transactions that change keys, append the events, and tell the oracle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use outbox::{AppendLimits, NewEvent};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::{Connection, PgConnection};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::script::{Ending, Popularity, Script};
use super::stage::Stage;
use super::store;

/// Most transactions that are prepared at the same time: the server's slots are shared with others.
const PREPARED_MAX: usize = 6;
/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 120;

/// What the writers have done so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) committed: AtomicU64,
    pub(crate) rolled_back: AtomicU64,
    /// Events of transactions or savepoints that were rolled back.
    pub(crate) in_vain: AtomicU64,
    pub(crate) prepared: AtomicU64,
}

struct Writer {
    stage: Arc<Stage>,
    tally: Arc<Tally>,
    popularity: Arc<Popularity>,
    prepared: Arc<Semaphore>,
    random: StdRng,
}

/// Writes with `writers` connections until it is stopped; each transaction that has begun is brought to its end.
pub(crate) async fn write_all(
    stage: &Arc<Stage>,
    tally: &Arc<Tally>,
    writers: usize,
    seed: u64,
    stop: &CancellationToken,
) -> Result<()> {
    let popularity = Arc::new(Popularity::new());
    let prepared = Arc::new(Semaphore::new(PREPARED_MAX));
    let mut tasks = JoinSet::new();
    for number in 0..u64::try_from(writers)? {
        let writer = Writer {
            stage: Arc::clone(stage),
            tally: Arc::clone(tally),
            popularity: Arc::clone(&popularity),
            prepared: Arc::clone(&prepared),
            random: StdRng::seed_from_u64(seed.wrapping_add(number)),
        };
        tasks.spawn(writer.run(stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a writer has died")??;
    }
    Ok(())
}

impl Writer {
    async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let mut connection = self.stage.connect().await?;
        while !stop.is_cancelled() {
            let script = Script::draw(&mut self.random, &self.popularity, self.stage.may_prepare);
            self.perform(&mut connection, &script).await.with_context(|| format!("{script:?}"))?;
        }
        Ok(())
    }

    async fn perform(&self, connection: &mut PgConnection, script: &Script) -> Result<()> {
        // Taken before any lock is held.
        let _slot = match script.ending {
            Ending::Prepare { .. } => Some(self.prepared.acquire().await?),
            Ending::Commit | Ending::Rollback => None,
        };
        let mut tx = connection.begin().await?;
        if let Some(pause) = script.writes_first {
            store::write_elsewhere(&mut tx).await?;
            tokio::time::sleep(pause).await;
        }
        if script.tries_in_vain {
            let mut savepoint = tx.begin().await?;
            let events = self.change(&mut savepoint, script).await?;
            savepoint.rollback().await?;
            self.tally.in_vain.fetch_add(events, Ordering::Relaxed);
        }
        let events = self.change(&mut tx, script).await?;
        tokio::time::sleep(script.hold).await;
        let commits = match script.ending {
            Ending::Commit => {
                tx.commit().await?;
                true
            }
            Ending::Rollback => {
                tx.rollback().await?;
                false
            }
            Ending::Prepare { hold, commits } => {
                let name = Uuid::now_v7();
                store::prepare(&mut tx, name).await?;
                // Nothing is open any more: this only tells the connection so.
                tx.rollback().await?;
                tokio::time::sleep(hold).await;
                store::resolve(connection, &name.to_string(), commits).await?;
                self.tally.prepared.fetch_add(1, Ordering::Relaxed);
                commits
            }
        };
        if commits {
            self.tally.committed.fetch_add(events, Ordering::Relaxed);
        } else {
            self.tally.rolled_back.fetch_add(1, Ordering::Relaxed);
            self.tally.in_vain.fetch_add(events, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Changes the keys and appends the events; answers how many.
    async fn change(&self, connection: &mut PgConnection, script: &Script) -> Result<u64> {
        let keys =
            script.changes.iter().map(|(key, _)| i32::try_from(*key)).collect::<Result<Vec<_>, _>>()?;
        let locked = store::lock_keys(connection, &keys).await?;
        let (mut ids, mut event_keys, mut numbers, mut events) = (vec![], vec![], vec![], vec![]);
        for ((key, before), (_, changes)) in locked.into_iter().zip(&script.changes) {
            for number in (before + 1..).take(*changes) {
                let event = event(&self.stage.topic, key, number);
                ids.push(event.event_id);
                event_keys.push(key);
                numbers.push(number);
                events.push(event);
            }
        }
        outbox::append(connection, &events, &AppendLimits::default()).await?;
        store::expect_events(connection, &ids, &event_keys, &numbers).await?;
        Ok(u64::try_from(events.len())?)
    }
}

/// The name of a key on the wire.
pub(crate) fn key_name(key: i32) -> String {
    format!("key-{key}")
}

fn event(topic: &str, key: i32, number: i64) -> NewEvent {
    NewEvent {
        event_id: Uuid::now_v7(),
        event_type: "Changed".into(),
        aggregate_type: "key".into(),
        aggregate_id: key.to_string(),
        aggregate_version: Some(number),
        topic: topic.to_owned(),
        partition_key: key_name(key),
        payload: Some(format!("{number:<PAYLOAD_BYTES$}").into_bytes()),
        headers: Vec::new(),
        traceparent: None,
        occurred_at: now(),
    }
}

#[expect(clippy::disallowed_methods, reason = "only the retention that is wrong on purpose decides by it")]
fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}
