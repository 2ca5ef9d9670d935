//! Waiting for a state instead of for a time.

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
pub async fn eventually<T>(
    what: &str,
    state: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    eventually_within(DEADLINE, what, state).await
}

/// As [`eventually`], with another deadline.
///
/// # Errors
/// Names `what` when the state did not come.
pub async fn eventually_within<T>(
    deadline: Duration,
    what: &str,
    mut state: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(reached) = state().await? {
            return Ok(reached);
        }
        anyhow::ensure!(Instant::now() < end, "did not happen within {deadline:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}
