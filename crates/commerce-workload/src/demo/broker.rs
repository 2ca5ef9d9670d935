//! Kafka, as far as the demo may stop it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use tokio::process::Command;

/// The commands that stop Kafka and start it again.
#[derive(Debug)]
pub(super) struct Broker {
    commands: Option<(Vec<String>, Vec<String>)>,
    stopped: AtomicBool,
}

impl Broker {
    /// Without both commands it is not ours to stop.
    pub(super) fn new(stop: Option<Vec<String>>, start: Option<Vec<String>>) -> Self {
        Self { commands: stop.zip(start), stopped: AtomicBool::new(false) }
    }

    pub(super) const fn is_ours(&self) -> bool {
        self.commands.is_some()
    }

    /// Stops it; what was stopped is started again by [`Self::restore`] at the latest.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        let (stop, _) = self.commands.as_ref().context("Kafka is not ours to stop")?;
        self.stopped.store(true, Ordering::Release);
        call(stop).await
    }

    /// Starts it and waits until it answers.
    pub(super) async fn start(&self) -> anyhow::Result<()> {
        let (_, start) = self.commands.as_ref().context("Kafka is not ours to start")?;
        call(start).await?;
        self.stopped.store(false, Ordering::Release);
        Ok(())
    }

    /// Starts it again when a run ended in the middle of an outage.
    pub(super) async fn restore(&self) -> anyhow::Result<()> {
        if self.stopped.load(Ordering::Acquire) { self.start().await } else { Ok(()) }
    }
}

async fn call(command: &[String]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("the command is empty")?;
    // Not killed when the demo is interrupted: half a start would be worse than a whole one.
    let output = Command::new(program).args(arguments).output().await.with_context(|| program.clone())?;
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Option<Vec<String>> {
        Some(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[tokio::test]
    async fn a_command_that_fails_is_reported_with_what_it_said() {
        let broker = Broker::new(shell("echo no broker here >&2; exit 3"), shell("true"));
        let error = broker.stop().await.unwrap_err();
        assert!(error.to_string().contains("no broker here"), "{error}");
    }

    #[tokio::test]
    async fn a_broker_is_restored_only_when_it_was_left_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("starts").display().to_string();
        let broker = Broker::new(shell("true"), shell(&format!("echo start >> '{file}'")));
        broker.restore().await.unwrap();
        broker.stop().await.unwrap();
        broker.restore().await.unwrap();
        broker.restore().await.unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "start\n");
    }

    #[test]
    fn without_both_commands_it_is_not_ours() {
        assert!(!Broker::new(shell("true"), None).is_ours());
        assert!(Broker::new(shell("true"), shell("true")).is_ours());
    }
}
