//! The outbox to Kafka.

use std::sync::Arc;
use std::time::Duration;

use outbox::{RelayStatus, RetentionStatus};
use runtime::management::Health;
use runtime::{TaskKind, database};

use super::{Process, Role};

/// A relay that works, and is not too far behind.
struct RelayHealth {
    status: Arc<RelayStatus>,
    lag_max: Duration,
}

impl Health for RelayHealth {
    fn name(&self) -> &'static str {
        "relay"
    }

    fn ready(&self) -> Result<(), String> {
        if !self.status.is_connected() {
            return Err(self.status.failure().unwrap_or_else(|| "not connected yet".to_owned()));
        }
        match self.status.lag() {
            Some(lag) if lag > self.lag_max => Err(format!("events wait for {} s", lag.as_secs())),
            _ => Ok(()),
        }
    }
}

/// A backlog within its limits.
struct BacklogHealth {
    status: Arc<RetentionStatus>,
}

impl Health for BacklogHealth {
    fn name(&self) -> &'static str {
        "backlog"
    }

    fn ready(&self) -> Result<(), String> {
        self.status.alarm().map_or(Ok(()), Err)
    }
}

pub(super) fn start(process: &mut Process<'_>) -> anyhow::Result<()> {
    let config = process.config;
    let settings = config.relay(Role::Relay.name());
    // Refused here and not in the task, so that the process does not start at all.
    settings.check()?;
    let status = Arc::new(RelayStatus::default());
    let options = database::connect_options(&config.database.url, Role::Relay.name())?;
    let nudge = Some(process.nudge.clone());
    let relay =
        outbox::relay::run(settings, options, nudge, process.lifecycle.shutdown(), Arc::clone(&status));
    process.lifecycle.spawn(TaskKind::Relay, relay);
    process.health.push(Arc::new(RelayHealth { status, lag_max: config.relay.lag_max }));
    spawn_retention(process)?;
    process.spawn_ticker(Role::Relay)
}

fn spawn_retention(process: &mut Process<'_>) -> anyhow::Result<()> {
    let settings = process.config.retention();
    settings.check()?;
    let status = Arc::new(RetentionStatus::default());
    let options = database::connect_options(&process.config.database.url, Role::Relay.name())?;
    let retention =
        outbox::retention::run(settings, options, process.lifecycle.shutdown(), Arc::clone(&status));
    process.lifecycle.spawn(TaskKind::Retention, retention);
    process.health.push(Arc::new(BacklogHealth { status }));
    Ok(())
}
