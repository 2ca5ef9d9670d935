//! Many small reads become one: all requests that wait are answered by one query.
//!
//! While a query runs, newcomers wait for the next one, so an id is read at most once at a time however many ask for
//! it (single flight), the database sees one connection however many pages are shown, and nobody is answered from a
//! query that began before he asked.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::error::ApiError;
use crate::store::StoreError;

/// What a batched read asks.
pub(crate) trait Source: Send + Sync + 'static {
    /// What is read of one id.
    type Value: Clone + Send + Sync + 'static;

    /// Reads the ids, which are distinct; ids without a value are left out.
    fn load(&self, ids: &[i64])
    -> impl Future<Output = Result<HashMap<i64, Self::Value>, StoreError>> + Send;

    /// Runs after the answers were given, before the next read begins.
    fn answered(&self, values: &HashMap<i64, Self::Value>) -> impl Future<Output = ()> + Send;
}

type Answer<V> = Result<Arc<HashMap<i64, V>>, Arc<StoreError>>;

struct Request<V> {
    ids: Vec<i64>,
    answer: oneshot::Sender<Answer<V>>,
}

/// Asks the reader task.
pub(crate) struct BatchReader<V> {
    requests: mpsc::Sender<Request<V>>,
}

impl<V> BatchReader<V> {
    /// Waits for the read that answers `ids`.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] when the queue is full, else what the database said.
    pub(crate) async fn read(&self, ids: Vec<i64>) -> Result<Arc<HashMap<i64, V>>, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request { ids, answer }).map_err(|_| ApiError::Overloaded)?;
        Ok(answered.await.map_err(|_| ApiError::Overloaded)??)
    }
}

/// The task behind a [`BatchReader`].
pub(crate) struct BatchReaderTask<S: Source> {
    source: S,
    requests: mpsc::Receiver<Request<S::Value>>,
    batch_max: usize,
}

/// A reader of `source` whose queue holds `queue_max` requests, `batch_max` of them to a query.
pub(crate) fn batch_reader<S: Source>(
    source: S,
    queue_max: usize,
    batch_max: usize,
) -> (BatchReader<S::Value>, BatchReaderTask<S>) {
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

    async fn answer(&self, batch: &mut Vec<Request<S::Value>>) {
        // Whoever gave up is not read for.
        batch.retain(|request| !request.answer.is_closed());
        let distinct: BTreeSet<i64> = batch.iter().flat_map(|request| request.ids.iter().copied()).collect();
        let ids: Vec<i64> = distinct.into_iter().collect();
        if ids.is_empty() {
            batch.clear();
            return;
        }
        let answer: Answer<S::Value> = self.source.load(&ids).await.map(Arc::new).map_err(Arc::new);
        for request in batch.drain(..) {
            // Fails when the request was given up meanwhile; nobody is left to tell.
            let _ = request.answer.send(answer.clone());
        }
        if let Ok(values) = &answer {
            self.source.answered(values).await;
        }
    }
}
