//! Many small reads become one: all requests that wait are answered by one query.
//!
//! While a query runs, newcomers wait for the next one, so a key is read at most once at a time however many ask for
//! it (single flight), the database sees one connection however many pages are shown, and nobody is answered from a
//! query that began before he asked.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::error::ApiError;
use crate::store::StoreError;

/// What a batched read asks.
pub(crate) trait Source: Send + Sync + 'static {
    /// What is asked for: mostly the id of a product.
    type Key: Copy + Ord + Hash + Send + Sync + 'static;
    /// What is read of one key.
    type Value: Clone + Send + Sync + 'static;

    /// Reads the keys, which are distinct; keys without a value are left out.
    fn load(&self, keys: &[Self::Key]) -> impl Future<Output = Loaded<Self::Key, Self::Value>> + Send;

    /// Runs after the answers were given, before the next read begins.
    fn answered(&self, _values: &HashMap<Self::Key, Self::Value>) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What a read finds.
pub(crate) type Loaded<K, V> = Result<HashMap<K, V>, StoreError>;

type Answer<K, V> = Result<Arc<HashMap<K, V>>, Arc<StoreError>>;

struct Request<K, V> {
    keys: Vec<K>,
    /// `None` for what nobody waits for.
    answer: Option<oneshot::Sender<Answer<K, V>>>,
}

impl<K, V> Request<K, V> {
    /// Whoever gave up is not read for.
    fn is_given_up(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

/// Asks the reader task.
pub(crate) struct BatchReader<K, V> {
    requests: mpsc::Sender<Request<K, V>>,
}

impl<K, V> BatchReader<K, V> {
    /// Waits for the read that answers `keys`.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] when the queue is full, else what the database said.
    pub(crate) async fn read(&self, keys: Vec<K>) -> Result<Arc<HashMap<K, V>>, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request { keys, answer: Some(answer) }).map_err(|_| ApiError::Overloaded)?;
        Ok(answered.await.map_err(|_| ApiError::Overloaded)??)
    }

    /// Has `keys` read without waiting for them: for what the source remembers. Nothing is read when the queue is full.
    pub(crate) fn ask(&self, keys: Vec<K>) {
        if self.requests.try_send(Request { keys, answer: None }).is_err() {
            tracing::debug!("nothing is read ahead: the queue is full");
        }
    }
}

/// The task behind a [`BatchReader`].
pub(crate) struct BatchReaderTask<S: Source> {
    source: S,
    requests: mpsc::Receiver<Request<S::Key, S::Value>>,
    batch_max: usize,
}

/// A reader of `source` whose queue holds `queue_max` requests, `batch_max` of them to a query.
pub(crate) fn batch_reader<S: Source>(
    source: S,
    queue_max: usize,
    batch_max: usize,
) -> (BatchReader<S::Key, S::Value>, BatchReaderTask<S>) {
    let (sender, requests) = mpsc::channel(queue_max);
    (BatchReader { requests: sender }, BatchReaderTask { source, requests, batch_max })
}

impl<S: Source> BatchReaderTask<S> {
    /// Answers until every [`BatchReader`] of it is gone: until the server has answered its last request.
    ///
    /// # Errors
    /// Never; a failed read is the answer of those who asked.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let mut batch = Vec::with_capacity(self.batch_max);
        while self.requests.recv_many(&mut batch, self.batch_max).await > 0 {
            self.answer(&mut batch).await;
        }
        Ok(())
    }

    async fn answer(&self, batch: &mut Vec<Request<S::Key, S::Value>>) {
        batch.retain(|request| !request.is_given_up());
        let distinct: BTreeSet<S::Key> =
            batch.iter().flat_map(|request| request.keys.iter().copied()).collect();
        let keys: Vec<S::Key> = distinct.into_iter().collect();
        if keys.is_empty() {
            batch.clear();
            return;
        }
        let answer: Answer<S::Key, S::Value> = self.source.load(&keys).await.map(Arc::new).map_err(Arc::new);
        for waiting in batch.drain(..).filter_map(|request| request.answer) {
            // Fails when the request was given up meanwhile; nobody is left to tell.
            let _ = waiting.send(answer.clone());
        }
        if let Ok(values) = &answer {
            self.source.answered(values).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::{Source, batch_reader};
    use crate::error::ApiError;
    use crate::store::StoreError;

    /// Remembers what was asked; every read waits for a pass.
    #[derive(Clone)]
    struct Recorded {
        asked: Arc<Mutex<Vec<Vec<i64>>>>,
        passes: Arc<Semaphore>,
    }

    impl Source for Recorded {
        type Key = i64;
        type Value = i64;

        async fn load(&self, ids: &[i64]) -> Result<HashMap<i64, i64>, StoreError> {
            self.asked.lock().unwrap().push(ids.to_vec());
            self.passes.acquire().await.unwrap().forget();
            if ids.contains(&0) {
                return Err(StoreError::Busy);
            }
            Ok(ids.iter().map(|id| (*id, id * 10)).collect())
        }
    }

    fn recorded(passes: usize) -> Recorded {
        Recorded { asked: Arc::default(), passes: Arc::new(Semaphore::new(passes)) }
    }

    #[tokio::test]
    async fn whoever_waits_is_answered_by_one_read_of_distinct_ids() {
        let source = recorded(0);
        let (reader, task) = batch_reader(source.clone(), 100, 100);
        tokio::spawn(task.run());
        let first = reader.read(vec![1]);
        let others = async {
            while source.asked.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            let others = join_all((0..50).map(|turn| reader.read(vec![1, 2 + turn % 3])));
            source.passes.add_permits(2);
            others.await
        };
        let (first, others) = tokio::join!(first, others);
        assert_eq!(first.unwrap()[&1], 10);
        assert!(others.into_iter().all(|answer| answer.unwrap()[&1] == 10));
        assert_eq!(*source.asked.lock().unwrap(), [vec![1], vec![1, 2, 3, 4]]);
    }

    #[tokio::test]
    async fn a_failed_read_is_the_answer_of_those_who_asked() {
        let (reader, task) = batch_reader(recorded(2), 100, 100);
        tokio::spawn(task.run());
        assert!(matches!(reader.read(vec![0]).await, Err(ApiError::Overloaded)));
        assert_eq!(reader.read(vec![3]).await.unwrap()[&3], 30);
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let source = recorded(0);
        let (reader, task) = batch_reader(source, 1, 1);
        let waiting = reader.read(vec![1]);
        let refused = async {
            tokio::task::yield_now().await;
            let refused = reader.read(vec![2]).await;
            drop(task);
            refused
        };
        let (waiting, refused) = tokio::join!(waiting, refused);
        assert!(matches!(refused, Err(ApiError::Overloaded)));
        assert!(waiting.is_err(), "the reader is gone");
    }
}
