//! Counts for pages: batched, remembered for a moment, and left out rather than waited for.

use std::collections::HashMap;
use std::time::Duration;

use moka::sync::Cache;
use runtime::database::Pool;
use tokio::time::Instant;

use crate::batch_reader::{BatchReader, Loaded, Source};
use crate::error::ApiError;
use crate::store::Session;
use crate::store::counts::{Counts, list_counts};

type Recent = Cache<i64, (Instant, Counts)>;

/// Counts from the streamer's database.
pub(crate) struct CountSource {
    pool: Pool,
    recent: Recent,
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
            self.recent.insert(*id, (read_at, *counts));
        }
        Ok(counts)
    }
}

/// Reads counts for pages.
pub(crate) struct CountReader {
    recent: Recent,
    reader: BatchReader<i64, Counts>,
    age_max: Duration,
    wait: Duration,
}

/// The memory that a source and its reader share.
pub(crate) fn count_source(pool: Pool, cached_max: usize, age_max: Duration) -> CountSource {
    let recent = Cache::builder()
        .max_capacity(u64::try_from(cached_max).unwrap_or(u64::MAX))
        .time_to_live(age_max)
        .build();
    CountSource { pool, recent }
}

impl CountSource {
    /// Takes a handle on the memory, for [`CountReader::new`].
    pub(crate) fn recent(&self) -> Recent {
        self.recent.clone()
    }
}

impl CountReader {
    pub(crate) fn new(
        recent: Recent,
        reader: BatchReader<i64, Counts>,
        age_max: Duration,
        wait: Duration,
    ) -> Self {
        Self { recent, reader, age_max, wait }
    }

    /// The counts of `ids`, none older than the limit. Ids are left out when counts cannot be had in time: a page is
    /// served without them.
    pub(crate) async fn read(&self, ids: &[i64]) -> HashMap<i64, Counts> {
        let mut known = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.recent.get(id) {
                Some((read_at, counts)) if read_at.elapsed() <= self.age_max => {
                    known.insert(*id, counts);
                }
                _ => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return known;
        }
        known.extend(self.read_now(&missing).await);
        known
    }

    /// The counts of `ids` from a query that begins now. Ids are left out as by [`Self::read`].
    pub(crate) async fn read_now(&self, ids: &[i64]) -> HashMap<i64, Counts> {
        match in_time(self.wait, "counts", self.reader.read(ids.to_vec())).await {
            Some(read) => ids.iter().filter_map(|id| Some((*id, *read.get(id)?))).collect(),
            None => HashMap::new(),
        }
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
