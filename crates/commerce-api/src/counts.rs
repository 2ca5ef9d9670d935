//! Counts for pages: batched, remembered for a moment, and shown as stale rather than waited for.
//!
//! Invariants: what is not marked as stale is at most `api.counts_age_max` old, and nothing is shown that is older than
//! `api.counts_stale_max`, counted from before its read; so many products are remembered and no more; no page waits longer
//! than `api.counts_wait`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use runtime::database::Pool;
use tokio::time::Instant;

use crate::batch_reader::{BatchReader, BatchReaderTask, Loaded, Source, batch_reader};
use crate::error::ApiError;
use crate::settings::ApiSettings;
use crate::store::Session;
use crate::store::counts::{Counts, list_counts};

/// Counts as they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShownCounts {
    pub(crate) counts: Counts,
    /// They are the last that are known, and newer ones cannot be had now.
    pub(crate) is_stale: bool,
}

/// What was read, shared by reader and source.
#[derive(Clone)]
struct Memory {
    entries: Arc<Cache<i64, (Instant, Counts)>>,
    age_max: Duration,
    stale_max: Duration,
}

impl Memory {
    fn new(entries_max: usize, age_max: Duration, stale_max: Duration) -> Self {
        Self { entries: Arc::new(Cache::new(entries_max)), age_max, stale_max }
    }

    /// What is known of a product.
    fn find(&self, id: i64) -> Option<ShownCounts> {
        let (read_at, counts) = self.entries.get(&id)?;
        let age = read_at.elapsed();
        (age <= self.stale_max).then_some(ShownCounts { counts, is_stale: age > self.age_max })
    }

    /// What need not be read anew yet.
    fn find_fresh(&self, id: i64) -> Option<ShownCounts> {
        self.find(id).filter(|shown| !shown.is_stale)
    }
}

/// Counts from the streamer's database.
pub(crate) struct CountSource {
    pool: Pool,
    memory: Memory,
}

impl Source for CountSource {
    type Key = i64;
    type Value = Counts;

    async fn load(&self, ids: &[i64]) -> Loaded<i64, Counts> {
        // Their age counts from before the read.
        let read_at = Instant::now();
        let mut session = Session::open(&self.pool).await?;
        let counted = list_counts(&mut session, ids).await?;
        session.release();
        let mut counts: HashMap<i64, Counts> = ids.iter().map(|id| (*id, Counts::default())).collect();
        counts.extend(counted);
        for (id, counts) in &counts {
            self.memory.entries.insert(*id, (read_at, *counts));
        }
        Ok(counts)
    }
}

/// Reads counts for pages.
pub(crate) struct CountReader {
    memory: Memory,
    reader: BatchReader<i64, Counts>,
    wait: Duration,
}

/// A reader of the counts in `pool`, and its task.
pub(crate) fn counts(pool: Pool, settings: &ApiSettings) -> (CountReader, BatchReaderTask<CountSource>) {
    let memory = Memory::new(settings.counts_cached_max, settings.counts_age_max, settings.counts_stale_max);
    let source = CountSource { pool, memory: memory.clone() };
    let (reader, task) = batch_reader(source, settings.read_queue_max, settings.read_batch_max);
    (CountReader { memory, reader, wait: settings.counts_wait }, task)
}

impl CountReader {
    /// The counts of `ids`. When they cannot be had in time, the last that are known are stale; ids of which none are known are
    /// left out: a page is served without them.
    pub(crate) async fn read(&self, ids: &[i64]) -> HashMap<i64, ShownCounts> {
        let mut known = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.memory.find_fresh(*id) {
                Some(counts) => {
                    known.insert(*id, counts);
                }
                None => missing.push(*id),
            }
        }
        if !missing.is_empty() {
            known.extend(self.read_now(&missing).await);
        }
        known
    }

    /// As [`Self::read`], of one product.
    pub(crate) async fn read_one(&self, id: i64) -> Option<ShownCounts> {
        match self.memory.find_fresh(id) {
            Some(counts) => Some(counts),
            None => self.read_now(&[id]).await.remove(&id),
        }
    }

    /// The counts of `ids` from a query that begins now, else as [`Self::read`].
    pub(crate) async fn read_now(&self, ids: &[i64]) -> HashMap<i64, ShownCounts> {
        let read = in_time(self.wait, "counts", self.reader.read(ids.to_vec())).await;
        let find = |id: &i64| match &read {
            Some(read) => read.get(id).map(|counts| ShownCounts { counts: *counts, is_stale: false }),
            None => self.memory.find(*id),
        };
        ids.iter().filter_map(|id| Some((*id, find(id)?))).collect()
    }
}

/// What counting answers within the time that a page waits for it; a page is never refused because counting is down.
pub(crate) async fn in_time<T>(
    wait: Duration,
    what: &'static str,
    read: impl Future<Output = Result<T, ApiError>>,
) -> Option<T> {
    match tokio::time::timeout(wait, read).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::debug!(%error, what, "a page is served without what counting tells");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(what, "a page is served without what counting tells: it took too long");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Memory, ShownCounts};
    use crate::store::counts::Counts;

    #[test]
    fn what_is_remembered_gets_stale_and_is_then_forgotten() {
        let memory = Memory::new(10, Duration::from_secs(100), Duration::from_secs(1_000));
        let counts = Counts { like_count: 7, ..Counts::default() };
        for (age, found) in [(50, Some(false)), (500, Some(true)), (5_000, None)] {
            let read_at = Instant::now().checked_sub(Duration::from_secs(age)).unwrap();
            memory.entries.insert(1, (read_at, counts));
            assert_eq!(memory.find(1), found.map(|is_stale| ShownCounts { counts, is_stale }), "{age}");
        }
        assert_eq!(memory.find(2), None);
    }

    #[test]
    fn so_many_products_are_remembered_and_no_more() {
        let memory = Memory::new(3, Duration::from_secs(100), Duration::from_secs(1_000));
        (0..20).for_each(|id| memory.entries.insert(id, (Instant::now(), Counts::default())));
        assert_eq!(memory.entries.len(), 3);
    }
}
