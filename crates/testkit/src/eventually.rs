//! Waiting for a state instead of for a time.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a slow, noisy machine: reached only when the state never comes.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often the state is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Polls `state` until it answers `Some`, for a minute at most.
///
/// # Errors
/// Names `what` when the state did not come.
pub async fn eventually<T, F, Fut>(what: &str, state: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Option<T>>>,
{
    eventually_within(DEADLINE, what, state).await
}

/// As [`eventually`], with another deadline.
///
/// # Errors
/// Names `what` when the state did not come.
pub async fn eventually_within<T, F, Fut>(deadline: Duration, what: &str, mut state: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Option<T>>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(reached) = state().await? {
            return Ok(reached);
        }
        anyhow::ensure!(Instant::now() < end, "did not happen within {deadline:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}
