//! A server that a run may stop and start again, by the commands of whoever runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Of a torture that may restart Kafka.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BrokerArguments {
    /// Shell command that stops Kafka; without it Kafka is never stopped
    #[arg(long, requires = "broker_start")]
    broker_stop: Option<String>,
    /// Shell command that starts Kafka and waits until it answers
    #[arg(long, requires = "broker_stop")]
    broker_start: Option<String>,
}

impl BrokerArguments {
    pub(crate) fn server(&self) -> Option<Server> {
        Server::new(self.broker_stop.clone(), self.broker_start.clone())
    }
}

/// The two shell commands, and whether the server is away because of them. Clones are the same server.
#[derive(Debug, Clone)]
pub struct Server {
    stop: String,
    start: String,
    is_away: Arc<AtomicBool>,
}

impl Server {
    /// Without both commands the server is not ours to stop.
    #[must_use]
    pub fn new(stop: Option<String>, start: Option<String>) -> Option<Self> {
        let (stop, start) = stop.zip(start)?;
        Some(Self { stop, start, is_away: Arc::new(AtomicBool::new(false)) })
    }

    /// From before it is stopped until after it answers again.
    pub(crate) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        self.is_away.store(true, Ordering::SeqCst);
        shell(&self.stop).await
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&self) -> Result<()> {
        shell(&self.start).await?;
        self.is_away.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Starts it if a run has ended while it was away.
    pub(crate) async fn restore(&self) -> Result<()> {
        if self.is_away() { self.start().await } else { Ok(()) }
    }
}

async fn shell(command: &str) -> Result<()> {
    let output = Command::new("sh").args(["-c", command]).output().await.context("sh")?;
    ensure!(
        output.status.success(),
        "{command} ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(stop: &str, start: &str) -> Server {
        Server::new(Some(stop.to_owned()), Some(start.to_owned())).unwrap()
    }

    #[test]
    fn a_server_without_both_commands_is_not_ours() {
        assert!(Server::new(Some("true".to_owned()), None).is_none());
        assert!(Server::new(None, Some("true".to_owned())).is_none());
    }

    #[tokio::test]
    async fn a_server_is_away_until_it_was_started_and_then_has_nothing_to_restore() {
        let server = server("true", "true");
        assert!(!server.is_away());
        server.stop().await.unwrap();
        assert!(server.is_away() && server.clone().is_away());
        server.restore().await.unwrap();
        assert!(!server.is_away());
    }

    #[tokio::test]
    async fn a_command_that_fails_is_reported_with_what_it_said() {
        let server = server("echo nothing to stop >&2; exit 3", "false");
        let error = server.stop().await.unwrap_err().to_string();
        assert!(error.contains("nothing to stop"), "{error}");
        // It may be half stopped, so it counts as away until a start has worked.
        assert!(server.restore().await.is_err() && server.is_away());
    }
}
