//! What runs and processes of the torture have in common.

use std::io::Read;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Logs to standard error; answers a token that is cancelled by `SIGTERM`, or when whoever started this process is gone.
///
/// # Errors
/// When the signal cannot be listened to.
pub(crate) fn begin() -> Result<CancellationToken> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .init();
    let stop = CancellationToken::new();
    let mut terminated = signal(SignalKind::terminate())?;
    let told = stop.clone();
    tokio::spawn(async move {
        terminated.recv().await;
        told.cancel();
    });
    let orphaned = stop.clone();
    std::thread::spawn(move || {
        // Nothing is ever written to it: it ends with whoever started this process.
        let _ = std::io::stdin().read(&mut [0]);
        orphaned.cancel();
    });
    Ok(stop)
}

/// What a run came to, when what it has left is removed. A failure of the run explains that of the clean-up.
pub(crate) fn cleaned_up<T>(outcome: Result<T>, removed: Result<()>) -> Result<T> {
    let outcome = outcome?;
    removed.context("removing what the run has left")?;
    Ok(outcome)
}
