//! The faults, while traffic runs: each is told, and known to the prober as a disturbance.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::DemoSettings;
use super::broker::Broker;
use super::poison::Poison;
use super::resend::Resender;
use super::roles::{Role, Roles};
use super::schedule::{Amounts, Fault, schedule};
use super::screen::Screen;
use crate::traffic::{Market, whole};

/// How long Kafka is away, beyond the time that it takes to stop and to start.
const OUTAGE: Duration = Duration::from_secs(4);
/// Traffic goes on up to the place of the so-manieth next fault while one is under way.
const AHEAD_MAX: usize = 2;
/// How often the progress of the traffic is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Whether something is being broken right now.
#[derive(Debug, Default)]
pub(super) struct Disturbance {
    /// Even: calm; odd: disturbed. Rises at every change.
    changes: AtomicU64,
}

impl Disturbance {
    /// The number of the present state.
    pub(super) fn state(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether nothing is being broken in a state.
    pub(super) const fn is_calm(state: u64) -> bool {
        state.is_multiple_of(2)
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    pub(super) kills: u64,
    pub(super) outages: u64,
    pub(super) duplicates: u64,
    pub(super) poison: Vec<Poison>,
}

/// Everything that the faults need.
pub(super) struct Faults {
    pub(super) settings: Arc<DemoSettings>,
    pub(super) roles: Arc<Roles>,
    pub(super) broker: Arc<Broker>,
    pub(super) market: Arc<Market>,
    pub(super) resender: Resender,
    pub(super) screen: Screen,
    pub(super) disturbance: Arc<Disturbance>,
    pub(super) done: Mutex<Done>,
}

impl Faults {
    /// Injects every scheduled fault, one after the other.
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let settings = &self.settings;
        let outages = usize::from(self.broker.is_ours());
        if outages == 0 {
            self.screen.line("fault: Kafka is not ours to stop, so its outage is skipped");
        }
        let amounts = Amounts {
            relay_kills: settings.relay_kills,
            streamer_kills: settings.streamer_kills,
            broker_outages: outages,
            duplicates: settings.duplicates,
            poison: settings.poison,
        };
        let faults = schedule(&amounts);
        let total = f64::from(u32::try_from(settings.commands).unwrap_or(u32::MAX));
        for (place, (at, fault)) in faults.iter().enumerate() {
            // On a slow machine a fault takes longer than the traffic up to the next: it must not run away.
            let held_at = faults.get(place + AHEAD_MAX).map_or(u64::MAX, |(at, _)| whole(at * total));
            self.market.pace.set_limit(held_at);
            while self.commands_done() < whole(at * total) {
                sleep(LOOK_INTERVAL).await;
            }
            self.inject(*fault).await.with_context(|| format!("fault {fault:?}"))?;
        }
        self.market.pace.set_limit(u64::MAX);
        Ok(())
    }

    /// What was done so far.
    pub(super) fn done(&self) -> Done {
        self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn commands_done(&self) -> u64 {
        self.market.tallies.done.load(Ordering::Relaxed)
    }

    async fn inject(&self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::KillRelay => self.kill(Role::Relay).await,
            Fault::KillStreamer => self.kill(Role::Streamer).await,
            Fault::BrokerOutage => self.broker_outage().await,
            Fault::Duplicates(count) => {
                let sent = self.resender.send_duplicates(count).await?;
                self.say(&format!("{sent} records of the topics sent again"));
                self.note(|done| done.duplicates += sent);
                Ok(())
            }
            Fault::Poison { from, count } => {
                let sent = self.resender.send_poison(from, count).await?;
                self.say(&format!("{} poison records sent", sent.len()));
                self.note(|done| done.poison.extend(sent));
                Ok(())
            }
        }
    }

    async fn kill(&self, role: Role) -> anyhow::Result<()> {
        self.disturbance.change();
        let pid = self.roles.kill(role).await?;
        let begun = Instant::now();
        self.roles.start(role).await?;
        self.disturbance.change();
        self.say(&format!(
            "{role} (pid {pid}) killed by SIGKILL, a new one was ready after {} ms",
            begun.elapsed().as_millis()
        ));
        self.note(|done| done.kills += 1);
        Ok(())
    }

    async fn broker_outage(&self) -> anyhow::Result<()> {
        self.disturbance.change();
        self.broker.stop().await?;
        let begun = Instant::now();
        self.say("Kafka stopped");
        sleep(OUTAGE).await;
        self.broker.start().await?;
        self.disturbance.change();
        self.say(&format!("Kafka back after {:.1} s", begun.elapsed().as_secs_f64()));
        self.note(|done| done.outages += 1);
        Ok(())
    }

    fn say(&self, text: &str) {
        self.screen.line(&format!("fault after {} commands: {text}", self.commands_done()));
    }

    fn note(&self, change: impl FnOnce(&mut Done)) {
        change(&mut self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_calm_before_and_after_a_disturbance_and_never_the_same_again() {
        let disturbance = Disturbance::default();
        let before = disturbance.state();
        disturbance.change();
        let during = disturbance.state();
        disturbance.change();
        let after = disturbance.state();
        assert!(Disturbance::is_calm(before) && !Disturbance::is_calm(during) && Disturbance::is_calm(after));
        assert_ne!(before, after);
    }
}
