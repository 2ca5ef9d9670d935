//! What runs and processes of the torture have in common.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a worker writes to standard output once it listens to `SIGTERM`, which would just end it before that.
const LISTENING: &[u8] = b"\n";
/// Longest wait for a worker that was asked to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process of the torture that can be killed, frozen, and asked to stop; it ends when this is dropped.
pub(crate) struct Worker {
    child: Child,
    /// Its standard output, until it has said that it listens to `SIGTERM`.
    silent: Option<ChildStdout>,
}

impl Worker {
    /// Starts a process that calls [`begin`]; what it logs is appended to a file.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut child = command
            // Its end tells the worker that the torture is over, whatever ended it.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| command.as_std().get_program().display().to_string())?;
        let silent = child.stdout.take();
        Ok(Self { child, silent })
    }

    /// Ends it by `SIGKILL`, frozen or not.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        let Some(id) = self.child.id() else { return Ok(()) };
        let status = Command::new("kill").arg(format!("-{signal}")).arg(id.to_string()).status().await?;
        ensure!(status.success(), "kill -{signal} {id} ended with {status}");
        Ok(())
    }

    /// Asks it to stop, as soon as it can be asked.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        if let Some(mut output) = self.silent.take() {
            // Nothing comes from one that has died instead, which whoever waits for its end is told.
            let _ = output.read_exact(&mut [0; LISTENING.len()]).await;
        }
        self.signal("TERM").await
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<ExitStatus> {
        self.terminate().await?;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        Ok(ended.context("the process does not stop")??)
    }

    /// How it has ended, if it has. Unlike waiting, this leaves its standard input open.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

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
    let mut output = std::io::stdout();
    output.write_all(LISTENING)?;
    output.flush()?;
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

#[cfg(test)]
mod tests {
    use tokio::process::Command;

    use super::Worker;

    #[tokio::test]
    async fn a_worker_is_not_asked_to_stop_before_it_listens() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.3; trap 'exit 0' TERM; echo; while :; do sleep 0.01; done"]);
        let worker = Worker::start(command, "/dev/null".as_ref()).unwrap();
        let ended = worker.stop().await.unwrap();
        assert!(ended.success(), "{ended}");
    }
}
