//! Work that comes round: what is left to it waits while the database or the cache is away.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Why a round was not done.
pub(crate) type RoundError = Box<dyn std::error::Error + Send + Sync>;

/// Does `round` at each interval until `shutdown`, of which `waiting` says what is left to it, for the log. A failure is retried
/// at the next interval, and told once until a round is done again.
pub(crate) async fn run<F>(
    interval: Duration,
    shutdown: CancellationToken,
    waiting: &'static str,
    mut round: impl FnMut() -> F,
) -> Result<(), std::convert::Infallible>
where
    F: Future<Output = Result<(), RoundError>>,
{
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(interval) => {}
        }
        let Some(done) = shutdown.run_until_cancelled(round()).await else { return Ok(()) };
        match done {
            Ok(()) if failing => {
                failing = false;
                tracing::info!("{waiting} do not wait any more");
            }
            Ok(()) => {}
            Err(error) if failing => tracing::debug!(%error, "{waiting} still wait"),
            Err(error) => {
                failing = true;
                tracing::warn!(%error, "{waiting} wait: the database, or what else they need, is away");
            }
        }
    }
}
