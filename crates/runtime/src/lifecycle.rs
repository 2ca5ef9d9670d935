//! From start to exit status: background tasks, signals, draining.
//!
//! Shutdown has two steps: the soft token asks every task to finish what it has begun; when the drain deadline has
//! passed, what still runs is dropped. A task that ends by itself, fails or panics starts the shutdown too, and the
//! process then exits with an error.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Every background task of every role. On the soft token each finishes as said here; an error in any of them ends
/// the process, whose supervisor starts it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// The buyers' HTTP server: stops accepting, answers what it has accepted.
    Api,
    /// Health and metrics: answers until the process ends.
    Management,
    /// Group commit of product views: writes until the server has ended.
    ViewWriter,
    /// Group commit of orders: writes until the server has ended.
    OrderWriter,
    /// Group commit of likes: writes until the server has ended.
    LikeWriter,
    /// Batch reads of product cards: answers until the server has ended.
    CardReader,
    /// Batch reads of counts: answers until the server has ended.
    CountReader,
    /// Reads of the products with the highest counts: answers until the server has ended.
    CountOrderReader,
    /// Reads of rankings: answers until the server has ended.
    RankingReader,
    /// Batch reads of tokens: answers until the server has ended.
    TokenReader,
    /// Batch reads of sessions: answers until the server has ended.
    SessionReader,
    /// Reads of watched products: drops at once and ends every stream of them, so that the server can end.
    LiveTicker,
    /// Outbox ticks: drops at once.
    Ticker,
    /// Outbox retention: drops at once; the server takes back a truncation that is half done.
    Retention,
    /// Outbox relay: waits for acknowledgements, writes the position, gives its shards back.
    Relay,
    /// A consumer: finishes its batches, leaves the group.
    Consumer,
    /// Dead letters to their topic: finishes the record it awaits.
    DeadLetterPublisher,
    /// Retention of handled events: drops at once; each of its steps is a transaction.
    DedupRetention,
    /// Owed cache invalidations: drops at once, the intents stay.
    IntentSweeper,
    /// Counts by the hour: drops at once; a fold is one statement.
    HourlyFolder,
}

impl fmt::Display for TaskKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Api => "api",
            Self::Management => "management",
            Self::ViewWriter => "view-writer",
            Self::OrderWriter => "order-writer",
            Self::LikeWriter => "like-writer",
            Self::CardReader => "card-reader",
            Self::CountReader => "count-reader",
            Self::CountOrderReader => "count-order-reader",
            Self::RankingReader => "ranking-reader",
            Self::TokenReader => "token-reader",
            Self::SessionReader => "session-reader",
            Self::LiveTicker => "live-ticker",
            Self::Ticker => "ticker",
            Self::Retention => "retention",
            Self::Relay => "relay",
            Self::Consumer => "consumer",
            Self::DeadLetterPublisher => "dead-letter-publisher",
            Self::DedupRetention => "dedup-retention",
            Self::IntentSweeper => "intent-sweeper",
            Self::HourlyFolder => "hourly-folder",
        })
    }
}

/// A boxed error of any task.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// Why a process did not end well.
#[derive(Debug, Error)]
pub enum LifecycleError {
    /// Signals cannot be watched.
    #[error("signals cannot be watched")]
    Signals(#[source] std::io::Error),
    /// A task failed.
    #[error("task {task} failed")]
    Failed {
        /// Which.
        task: TaskKind,
        /// Why.
        #[source]
        source: TaskError,
    },
    /// A task ended although nobody asked it to.
    #[error("task {0} ended by itself")]
    Ended(TaskKind),
    /// A task panicked.
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// Tasks were still running at the drain deadline and were dropped.
    #[error("{0} tasks were still running at the drain deadline")]
    Undrained(usize),
}

/// The tasks of one process.
#[derive(Debug, Default)]
pub struct Lifecycle {
    shutdown: CancellationToken,
    tasks: JoinSet<(TaskKind, Result<(), TaskError>)>,
}

impl Lifecycle {
    /// No task yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on SIGTERM and SIGINT cancel the soft token. For the first line of a process: a signal that comes before this
    /// ends the process as it is, and is ignored where the process is the first of its container.
    ///
    /// # Errors
    /// When signals cannot be watched.
    pub fn watch_signals(&self) -> Result<(), LifecycleError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(LifecycleError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(LifecycleError::Signals)?;
        let shutdown = self.shutdown();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            shutdown.cancel();
        });
        Ok(())
    }

    /// The soft token: cancelled when the process should finish.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a task. It must watch [`Self::shutdown`].
    pub fn spawn<F, E>(&mut self, kind: TaskKind, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError> + 'static,
    {
        self.tasks.spawn(async move { (kind, task.await.map_err(Into::into)) });
    }

    /// Runs until the soft token is cancelled or a task ends, then drains for at most `drain`.
    ///
    /// # Errors
    /// The first thing that went wrong: a task that failed, ended by itself, panicked, or did not drain.
    pub async fn run(mut self, drain: Duration) -> Result<(), LifecycleError> {
        let first = tokio::select! {
            // In this order: a task that ended when the token asked it to did not end by itself.
            biased;
            () = self.shutdown.cancelled() => Ok(()),
            Some(ended) = self.tasks.join_next() => Err(unasked(ended)),
        };
        tracing::info!(drain_seconds = drain.as_secs(), "shutting down");
        self.shutdown.cancel();
        let drained = tokio::time::timeout(drain, self.drain()).await;
        let left = self.tasks.len();
        self.tasks.abort_all();
        first?;
        drained.unwrap_or(Err(LifecycleError::Undrained(left)))
    }

    async fn drain(&mut self) -> Result<(), LifecycleError> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let this = match ended {
                Ok((_, Ok(()))) => Ok(()),
                Ok((task, Err(source))) => Err(LifecycleError::Failed { task, source }),
                Err(error) => Err(LifecycleError::Panicked(error)),
            };
            outcome = outcome.and(this);
        }
        outcome
    }
}

fn unasked(ended: Result<(TaskKind, Result<(), TaskError>), tokio::task::JoinError>) -> LifecycleError {
    match ended {
        Ok((task, Ok(()))) => LifecycleError::Ended(task),
        Ok((task, Err(source))) => LifecycleError::Failed { task, source },
        Err(error) => LifecycleError::Panicked(error),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::{Lifecycle, LifecycleError, TaskKind};

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_failed_task_drains_the_others_and_is_reported() {
        let mut lifecycle = Lifecycle::new();
        let shutdown = lifecycle.shutdown();
        lifecycle.spawn(TaskKind::Ticker, async move {
            shutdown.cancelled().await;
            Ok::<_, Infallible>(())
        });
        lifecycle.spawn(TaskKind::Relay, async { Err("no database") });
        let error = lifecycle.run(LONG).await.unwrap_err();
        assert!(matches!(error, LifecycleError::Failed { task: TaskKind::Relay, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_an_error() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.spawn(TaskKind::Consumer, async { Ok::<_, Infallible>(()) });
        let error = lifecycle.run(LONG).await.unwrap_err();
        assert!(matches!(error, LifecycleError::Ended(TaskKind::Consumer)), "{error}");
    }

    #[tokio::test]
    async fn a_task_that_does_not_drain_is_dropped_at_the_deadline() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.spawn(TaskKind::Api, async {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(())
        });
        lifecycle.shutdown().cancel();
        let error = lifecycle.run(Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, LifecycleError::Undrained(1)), "{error}");
    }

    #[tokio::test]
    async fn a_signal_that_comes_before_the_run_is_heeded() {
        let lifecycle = Lifecycle::new();
        lifecycle.watch_signals().unwrap();
        let own = std::process::id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &own]).status().unwrap().success());
        tokio::time::timeout(LONG, lifecycle.run(LONG)).await.expect("it ends").unwrap();
    }

    #[tokio::test]
    async fn a_clean_shutdown_is_no_error() {
        // Often: who is asked first used to be a matter of luck.
        for _ in 0..50 {
            let mut lifecycle = Lifecycle::new();
            let shutdown = lifecycle.shutdown();
            let (ended, has_ended) = tokio::sync::oneshot::channel::<Infallible>();
            lifecycle.spawn(TaskKind::Ticker, async move {
                shutdown.cancelled().await;
                drop(ended);
                Ok::<_, Infallible>(())
            });
            lifecycle.shutdown().cancel();
            assert!(has_ended.await.is_err());
            lifecycle.run(LONG).await.unwrap();
        }
    }
}
