//! The relays: processes that can be killed and frozen, each behind a proxy to the broker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use sqlx::PgConnection;
use testkit::{Line, Proxy};
use tokio::process::Command;

use super::stage::Stage;
use super::store;
use super::variant::Variant;
use crate::process::Worker;

/// In front of a place's number, in the names of owners.
const OWNER_PREFIX: &str = "relay-";

/// Places for relays, each with its own way to the broker.
pub(crate) struct Relays {
    stage: Arc<Stage>,
    program: PathBuf,
    variant: Variant,
    slots: Vec<Slot>,
    /// Faults made, by name.
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

struct Slot {
    proxy: Proxy,
    line: Line,
    worker: Option<Worker>,
    is_frozen: bool,
    /// Starts so far.
    generation: u32,
}

impl Relays {
    pub(crate) async fn new(
        stage: &Arc<Stage>,
        program: PathBuf,
        variant: Variant,
        slots: usize,
    ) -> Result<Self> {
        let broker = stage.broker()?;
        let mut prepared = Vec::with_capacity(slots);
        for _ in 0..slots {
            let proxy = Proxy::start(broker)?;
            prepared.push(Slot { proxy, line: Line::Up, worker: None, is_frozen: false, generation: 0 });
        }
        Ok(Self { stage: Arc::clone(stage), program, variant, slots: prepared, faults: BTreeMap::new() })
    }

    /// The place of the relay that owns most shards, if that is one of ours.
    pub(crate) async fn owning_slot(&self, connection: &mut PgConnection) -> Result<Option<usize>> {
        let owners = store::list_owners(connection).await?;
        Ok(owners.first().and_then(|owner| owner.strip_prefix(OWNER_PREFIX)?.split('-').next()?.parse().ok()))
    }

    pub(crate) fn is_running(&self, slot: usize) -> bool {
        self.slots[slot].worker.is_some()
    }

    pub(crate) fn is_frozen(&self, slot: usize) -> bool {
        self.slots[slot].is_frozen
    }

    pub(crate) fn is_up(&self, slot: usize) -> bool {
        self.slots[slot].line == Line::Up
    }

    /// Starts a relay; one with a `new_name` has to wait for the leases of its predecessor.
    pub(crate) fn start(&mut self, slot: usize, new_name: bool) -> Result<()> {
        let place = &mut self.slots[slot];
        if place.worker.is_some() {
            return Ok(());
        }
        place.generation += 1;
        let owner =
            if new_name { format!("relay-{slot}-{}", place.generation) } else { format!("relay-{slot}") };
        let mut command = Command::new(&self.program);
        command
            .args(["relay-process", "--owner", &owner])
            .args(["--relay", &self.variant.to_string()])
            .args(["--brokers", &format!("127.0.0.1:{}", place.proxy.port)])
            .env("COMMERCE_DATABASE_URL", self.stage.database.url());
        match self.variant.failpoints() {
            Some(failpoints) => command.env("FAILPOINTS", failpoints),
            None => command.env_remove("FAILPOINTS"),
        };
        place.worker = Some(Worker::start(command, &log_file(&self.stage, slot))?);
        place.is_frozen = false;
        Ok(())
    }

    /// Ends a relay by `SIGKILL`, frozen or not.
    pub(crate) async fn kill(&mut self, slot: usize) -> Result<()> {
        if let Some(worker) = self.slots[slot].worker.take() {
            worker.kill().await?;
            self.count("kill");
        }
        self.slots[slot].is_frozen = false;
        Ok(())
    }

    pub(crate) async fn freeze(&mut self, slot: usize) -> Result<()> {
        if let Some(worker) = &self.slots[slot].worker {
            worker.signal("STOP").await?;
            self.slots[slot].is_frozen = true;
            self.count("freeze");
        }
        Ok(())
    }

    pub(crate) async fn thaw(&mut self, slot: usize) -> Result<()> {
        if let Some(worker) = &self.slots[slot].worker {
            worker.signal("CONT").await?;
        }
        self.slots[slot].is_frozen = false;
        Ok(())
    }

    /// Asks a relay to stop, and waits until it has handed everything back.
    pub(crate) async fn stop(&mut self, slot: usize) -> Result<()> {
        self.thaw(slot).await?;
        if let Some(worker) = self.slots[slot].worker.take() {
            let ended = worker.stop().await?;
            let log = log_file(&self.stage, slot);
            ensure!(ended.success(), "relay {slot} ended with {ended}: {}", log.display());
            self.count("hand-back");
        }
        Ok(())
    }

    pub(crate) fn set_line(&mut self, slot: usize, line: Line) {
        self.slots[slot].proxy.set(line);
        self.slots[slot].line = line;
        match line {
            Line::Up => {}
            Line::Slow => self.count("broker link slow"),
            Line::Frozen => self.count("broker link frozen"),
            Line::Cut => self.count("broker link cut"),
        }
    }

    /// Fails when a relay has ended although nobody ended it.
    pub(crate) fn ensure_alive(&mut self) -> Result<()> {
        for slot in 0..self.slots.len() {
            let ended = match &mut self.slots[slot].worker {
                Some(worker) => worker.ended()?,
                None => None,
            };
            if let Some(status) = ended {
                bail!(
                    "relay {slot} ended by itself with {status}: {}",
                    log_file(&self.stage, slot).display()
                );
            }
        }
        Ok(())
    }

    /// For a run whose logs nobody will want to read.
    pub(crate) fn remove_logs(&self) {
        for slot in 0..self.slots.len() {
            // A relay that was never started has none.
            let _ = std::fs::remove_file(log_file(&self.stage, slot));
        }
    }

    pub(crate) fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }
}

fn log_file(stage: &Stage, slot: usize) -> PathBuf {
    std::env::temp_dir().join(format!("{}-relay-{slot}.log", stage.name()))
}
