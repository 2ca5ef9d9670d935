//! What costs much to read is remembered for a moment, and read anew before it is too old.
//!
//! Invariants: no value is given out that is older than the limit, counted from before its read; so many are
//! remembered and no more. A value of half the age is given out at once and renewed meanwhile, by one read however many
//! ask for it, so that nobody waits for what is asked for often.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::batch_reader::{BatchReader, BatchReaderTask, Loaded, Source, batch_reader};
use crate::error::ApiError;
use crate::store::StoreError;

/// What a source has read, shared with its reader.
#[derive(Clone)]
struct Memory<K, V> {
    entries: Arc<Cache<K, Arc<Entry<V>>>>,
    age_max: Duration,
}

struct Entry<V> {
    read_at: Instant,
    value: V,
    /// Somebody has asked for a newer one.
    is_renewed: AtomicBool,
}

impl<K, V> Memory<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(entries_max: usize, age_max: Duration) -> Self {
        Self { entries: Arc::new(Cache::new(entries_max)), age_max }
    }

    /// Remembers what a read that began at `read_at` has found.
    fn insert(&self, key: K, read_at: Instant, value: V) {
        let is_renewed = AtomicBool::new(false);
        self.entries.insert(key, Arc::new(Entry { read_at, value, is_renewed }));
    }

    /// Forgets what is not there any more.
    fn remove(&self, key: K) {
        self.entries.remove(&key);
    }

    /// What need not be read anew yet.
    fn find_young(&self, key: K) -> Option<V> {
        let entry = self.entries.get(&key)?;
        self.is_young(&entry).then(|| entry.value.clone())
    }

    fn is_young(&self, entry: &Entry<V>) -> bool {
        entry.read_at.elapsed() < self.age_max / 2
    }
}

/// What is read of one key at a time.
pub(crate) trait ReadOne: Send + Sync + 'static {
    /// What is asked for.
    type Key: Copy + Ord + Hash + Send + Sync + 'static;
    /// What is read.
    type Value: Clone + Send + Sync + 'static;

    /// Reads the value of a key.
    fn read_one(&self, key: Self::Key) -> impl Future<Output = Result<Self::Value, StoreError>> + Send;
}

/// A source of what is read of one key at a time.
pub(crate) struct OneByOne<R>(R);

impl<R: ReadOne> Source for OneByOne<R> {
    type Key = R::Key;
    type Value = R::Value;

    async fn load(&self, keys: &[R::Key]) -> Loaded<R::Key, R::Value> {
        let mut loaded = HashMap::with_capacity(keys.len());
        for key in keys {
            loaded.insert(*key, self.0.read_one(*key).await?);
        }
        Ok(loaded)
    }
}

/// Fills a memory. It looks there first: whoever waited behind a reader of the same key takes what that one has found.
pub(crate) struct MemorySource<S: Source> {
    source: S,
    memory: Memory<S::Key, S::Value>,
}

impl<S: Source> Source for MemorySource<S> {
    type Key = S::Key;
    type Value = S::Value;

    async fn load(&self, keys: &[S::Key]) -> Loaded<S::Key, S::Value> {
        let mut loaded: HashMap<S::Key, S::Value> =
            keys.iter().filter_map(|key| Some((*key, self.memory.find_young(*key)?))).collect();
        let missing: Vec<S::Key> = keys.iter().copied().filter(|key| !loaded.contains_key(key)).collect();
        if missing.is_empty() {
            return Ok(loaded);
        }
        let read_at = Instant::now();
        let read = self.source.load(&missing).await?;
        for key in missing {
            match read.get(&key) {
                Some(value) => self.memory.insert(key, read_at, value.clone()),
                // Only what is there is remembered: what is asked for in vain takes nobody's place.
                None => self.memory.remove(key),
            }
        }
        loaded.extend(read);
        Ok(loaded)
    }
}

/// The task behind a [`Remembered`] of [`remembered`].
pub(crate) type MemoryTask<R> = JointMemoryTask<OneByOne<R>>;

/// The task behind a [`Remembered`] of [`remembered_together`].
pub(crate) type JointMemoryTask<S> = BatchReaderTask<MemorySource<S>>;

/// The limits of what is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryLimits {
    pub(crate) entries_max: usize,
    pub(crate) age_max: Duration,
    /// Requests that wait.
    pub(crate) queue_max: usize,
}

/// Reads through a memory of its own, and the task behind it. One request is answered at a time: what it asks for is read for
/// those who want it, and not with the next one's.
pub(crate) fn remembered<R: ReadOne>(
    read: R,
    limits: MemoryLimits,
) -> (Remembered<R::Key, R::Value>, MemoryTask<R>) {
    remembered_together(OneByOne(read), limits, 1)
}

/// As [`remembered`]; `batch_max` of the requests that wait are answered by one read.
pub(crate) fn remembered_together<S: Source>(
    source: S,
    limits: MemoryLimits,
    batch_max: usize,
) -> (Remembered<S::Key, S::Value>, JointMemoryTask<S>) {
    let memory = Memory::new(limits.entries_max, limits.age_max);
    let source = MemorySource { source, memory: memory.clone() };
    let (reader, task) = batch_reader(source, limits.queue_max, batch_max);
    (Remembered { memory, reader }, task)
}

/// Reads through a memory.
pub(crate) struct Remembered<K, V> {
    memory: Memory<K, V>,
    reader: BatchReader<K, V>,
}

impl<K, V> Remembered<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The value of a key that has one, no older than the limit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn read(&self, key: K) -> Result<V, ApiError> {
        let found = self.find(key).await?;
        found.ok_or_else(|| ApiError::Internal("what was asked for was not read".into()))
    }

    /// The value of a key, no older than the limit; `None` when it has none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn find(&self, key: K) -> Result<Option<V>, ApiError> {
        if let Some(entry) = self.memory.entries.get(&key)
            && entry.read_at.elapsed() < self.memory.age_max
        {
            if !self.memory.is_young(&entry) && !entry.is_renewed.swap(true, Ordering::Relaxed) {
                self.reader.ask(vec![key]);
            }
            return Ok(Some(entry.value.clone()));
        }
        Ok(self.reader.read(vec![key]).await?.get(&key).cloned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::{Memory, MemoryLimits, ReadOne, Remembered, remembered, remembered_together};
    use crate::batch_reader::{Loaded, Source};
    use crate::store::StoreError;

    const AGE_MAX: Duration = Duration::from_secs(1_000);

    /// Counts its reads; each waits for a pass and finds how many there have been.
    struct Counting {
        reads: Arc<AtomicI64>,
        passes: Arc<Semaphore>,
    }

    impl ReadOne for Counting {
        type Key = i64;
        type Value = i64;

        async fn read_one(&self, _key: i64) -> Result<i64, StoreError> {
            self.passes.acquire().await.unwrap().forget();
            Ok(self.reads.fetch_add(1, Ordering::SeqCst) + 1)
        }
    }

    struct Fixture {
        memory: Memory<i64, i64>,
        remembered: Remembered<i64, i64>,
        reads: Arc<AtomicI64>,
        passes: Arc<Semaphore>,
    }

    fn fixture(entries_max: usize, age_max: Duration) -> Fixture {
        let (reads, passes) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let counting = Counting { reads: Arc::clone(&reads), passes: Arc::clone(&passes) };
        let (remembered, task) = remembered(counting, MemoryLimits { entries_max, age_max, queue_max: 100 });
        tokio::spawn(task.run());
        Fixture { memory: remembered.memory.clone(), remembered, reads, passes }
    }

    /// Knows the odd keys only, each as long as it stays there; remembers what it was asked.
    struct Odd {
        asked: Arc<Mutex<Vec<Vec<i64>>>>,
        gone: Arc<AtomicBool>,
    }

    impl Source for Odd {
        type Key = i64;
        type Value = i64;

        async fn load(&self, keys: &[i64]) -> Loaded<i64, i64> {
            self.asked.lock().unwrap().push(keys.to_vec());
            let is_there = |key: &&i64| **key % 2 == 1 && !self.gone.load(Ordering::SeqCst);
            Ok(keys.iter().filter(is_there).map(|key| (*key, *key)).collect())
        }
    }

    #[tokio::test]
    async fn only_what_is_there_is_remembered() {
        let (asked, gone): (Arc<Mutex<Vec<_>>>, Arc<AtomicBool>) = Default::default();
        let odd = Odd { asked: Arc::clone(&asked), gone: Arc::clone(&gone) };
        let limits = MemoryLimits { entries_max: 10, age_max: AGE_MAX, queue_max: 100 };
        let (remembered, task) = remembered_together(odd, limits, 100);
        tokio::spawn(task.run());
        let find = |key| remembered.find(key);
        assert_eq!((find(1).await.unwrap(), find(2).await.unwrap()), (Some(1), None));
        assert_eq!((find(1).await.unwrap(), find(2).await.unwrap()), (Some(1), None));
        assert_eq!(*asked.lock().unwrap(), [[1], [2], [2]], "what is not there is looked for every time");
        // What waits together is read together, but for what is remembered.
        let found = futures_util::future::join_all([3, 4, 5].map(find)).await;
        assert!(found.into_iter().map(Result::unwrap).eq([Some(3), None, Some(5)]));
        assert_eq!(asked.lock().unwrap()[3..], [[3, 4, 5]]);

        gone.store(true, Ordering::SeqCst);
        remembered.memory.insert(1, ago(AGE_MAX * 3 / 4), 1);
        // The first one has it read anew, which is done when the second one is answered.
        assert_eq!((find(1).await.unwrap(), find(2).await.unwrap()), (Some(1), None));
        assert_eq!(find(1).await.unwrap(), None);
    }

    fn ago(age: Duration) -> Instant {
        Instant::now().checked_sub(age).unwrap()
    }

    #[tokio::test]
    async fn what_is_young_is_given_out_and_what_is_too_old_is_waited_for() {
        let fixture = fixture(10, AGE_MAX);
        fixture.memory.insert(1, ago(AGE_MAX / 4), -1);
        assert_eq!(fixture.remembered.read(1).await.unwrap(), -1);
        fixture.memory.insert(1, ago(AGE_MAX), -2);
        fixture.passes.add_permits(1);
        assert_eq!(fixture.remembered.read(1).await.unwrap(), 1);
        assert_eq!(fixture.remembered.read(1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_is_half_as_old_is_given_out_while_one_read_renews_it() {
        let fixture = fixture(10, AGE_MAX);
        fixture.memory.insert(1, ago(AGE_MAX * 3 / 4), -1);
        for _ in 0..50 {
            assert_eq!(fixture.remembered.read(1).await.unwrap(), -1, "nobody waits for the read");
        }
        fixture.passes.add_permits(50);
        while fixture.remembered.read(1).await.unwrap() == -1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fixture.reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn whoever_waits_for_one_key_is_served_by_one_read() {
        let fixture = fixture(10, AGE_MAX);
        let waiting = futures_util::future::join_all((0..20).map(|_| fixture.remembered.read(1)));
        fixture.passes.add_permits(50);
        assert!(waiting.await.into_iter().all(|value| matches!(value, Ok(1))));
        assert_eq!(fixture.reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn without_an_age_nothing_is_remembered() {
        let fixture = fixture(10, Duration::ZERO);
        fixture.passes.add_permits(2);
        assert_eq!(fixture.remembered.read(1).await.unwrap(), 1);
        assert_eq!(fixture.remembered.read(1).await.unwrap(), 2);
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let memory = Memory::new(3, AGE_MAX);
        (0..20).for_each(|key| memory.insert(key, Instant::now(), key));
        assert_eq!(memory.entries.len(), 3);
    }
}
