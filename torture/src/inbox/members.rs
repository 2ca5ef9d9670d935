//! The members: processes that are killed, frozen and replaced.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use testkit::eventually_within;
use tokio::process::Command;
use tokio::time::Instant;

use super::mix::Mix;
use super::run::RunSettings;
use super::stage::Stage;
use super::store;
use super::variant::Variant;
use crate::process::Worker;

/// SIGKILL.
pub(crate) const KILLED: i32 = 9;
/// Pause between two looks whether a member has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait until a member has written something.
const OWNING_MAX: Duration = Duration::from_secs(30);

/// Places for members, the last of them for guests.
pub(crate) struct Members {
    stage: Arc<Stage>,
    pub(crate) program: PathBuf,
    variant: Variant,
    mix: Mix,
    is_mended: bool,
    slots: Vec<Slot>,
    /// Places of members that are there all the time.
    pub(crate) count: usize,
}

#[derive(Default)]
struct Slot {
    worker: Option<Worker>,
    /// Starts so far.
    generation: u32,
}

impl Members {
    pub(crate) fn new(stage: &Arc<Stage>, settings: &RunSettings) -> Self {
        let RunSettings { program, variant, mix, members: count, .. } = settings.clone();
        let slots = (0..=count).map(|_| Slot::default()).collect();
        Self { stage: Arc::clone(stage), program, variant, mix, is_mended: false, slots, count }
    }

    /// The place for guests, who are no static members and leave the group when they stop.
    pub(crate) fn guest(&self) -> usize {
        self.count
    }

    fn owner(&self, slot: usize) -> String {
        format!("member-{slot}-{}", self.slots[slot].generation)
    }

    fn log_file(&self, slot: impl std::fmt::Display) -> PathBuf {
        std::env::temp_dir().join(format!("{}-member-{slot}.log", self.stage.name()))
    }

    /// For a shell.
    pub(crate) fn log_files(&self) -> String {
        self.log_file('*').display().to_string()
    }

    /// Starts a member; `failpoint` is where it is to die.
    pub(crate) fn start(&mut self, slot: usize, failpoint: Option<&str>) -> Result<()> {
        self.slots[slot].generation += 1;
        let mut command = Command::new(&self.program);
        command
            .args(["inbox-process", "--owner", &self.owner(slot)])
            .args(["--prefix", self.stage.topics.prefix()])
            .args(["--consumer", &self.variant.to_string()])
            .args(["--brokers", self.stage.topics.brokers()])
            .env("COMMERCE_DATABASE_URL", self.stage.member_url()?);
        if slot != self.guest() {
            command.args(["--instance", &format!("member-{slot}")]);
        }
        if self.mix == Mix::Strict {
            command.arg("--strict");
        }
        if self.is_mended {
            command.arg("--mended");
        }
        let failpoints: Vec<&str> = self.variant.failpoint().into_iter().chain(failpoint).collect();
        command.env("FAILPOINTS", failpoints.join(";"));
        self.slots[slot].worker = Some(Worker::start(command, &self.log_file(slot))?);
        Ok(())
    }

    /// Ends a member by `SIGKILL`, wherever it is.
    pub(crate) async fn kill(&mut self, slot: usize) -> Result<()> {
        if let Some(worker) = self.slots[slot].worker.take() {
            worker.kill().await?;
        }
        Ok(())
    }

    /// Asks a member to stop.
    pub(crate) async fn terminate(&mut self, slot: usize) -> Result<()> {
        if let Some(worker) = &mut self.slots[slot].worker {
            worker.terminate().await?;
        }
        Ok(())
    }

    /// Asks a member to stop, and waits until it has.
    pub(crate) async fn stop(&mut self, slot: usize) -> Result<()> {
        if let Some(worker) = self.slots[slot].worker.take() {
            let ended = worker.stop().await?;
            ensure!(ended.success(), "member {slot} ended with {ended}: {}", self.log_file(slot).display());
        }
        Ok(())
    }

    /// Every member is stopped and begun again as the release that is mended.
    pub(crate) async fn mend(&mut self) -> Result<()> {
        self.is_mended = true;
        for slot in 0..self.count {
            self.stop(slot).await?;
            self.start(slot, None)?;
        }
        Ok(())
    }

    /// Waits for a member that is to kill itself; answers whether it did.
    pub(crate) async fn is_killed(&mut self, slot: usize, patience: Duration) -> Result<bool> {
        let Some(worker) = &mut self.slots[slot].worker else { return Ok(false) };
        let end = Instant::now() + patience;
        let ended: ExitStatus = loop {
            match worker.ended()? {
                Some(ended) => break ended,
                None if Instant::now() < end => tokio::time::sleep(LOOK_INTERVAL).await,
                None => return Ok(false),
            }
        };
        self.slots[slot].worker = None;
        ensure!(
            ended.signal() == Some(KILLED),
            "member {slot} ended with {ended}: {}",
            self.log_file(slot).display()
        );
        Ok(true)
    }

    /// Waits until a member has written something.
    pub(crate) async fn owns(&self, slot: usize) -> Result<()> {
        let mut connection = self.stage.connect().await?;
        let owner = self.owner(slot);
        eventually_within(OWNING_MAX, &format!("{owner} owns a partition"), async || {
            Ok(store::list_owners(&mut connection).await?.contains(&owner).then_some(()))
        })
        .await
    }

    /// Waits until others have written on every partition of a member.
    pub(crate) async fn owns_nothing(&self, slot: usize) -> Result<()> {
        let mut connection = self.stage.connect().await?;
        let owner = self.owner(slot);
        eventually_within(OWNING_MAX, &format!("{owner} is succeeded"), async || {
            Ok((!store::list_owners(&mut connection).await?.contains(&owner)).then_some(()))
        })
        .await
    }

    /// Fails when a member has ended although nobody ended it.
    pub(crate) fn ensure_alive(&mut self) -> Result<()> {
        for slot in 0..self.slots.len() {
            if let Some(worker) = &mut self.slots[slot].worker
                && let Some(status) = worker.ended()?
            {
                bail!("member {slot} ended by itself with {status}: {}", self.log_file(slot).display());
            }
        }
        Ok(())
    }

    /// Whether any member has logged this.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        (0..self.slots.len()).any(|slot| {
            // A member that was never started has no log.
            std::fs::read_to_string(self.log_file(slot)).is_ok_and(|log| log.contains(text))
        })
    }

    /// For a run whose logs nobody will want to read.
    pub(crate) fn remove_logs(&self) {
        for slot in 0..self.slots.len() {
            // As above.
            let _ = std::fs::remove_file(self.log_file(slot));
        }
    }

    pub(crate) async fn signal(&self, slot: usize, signal: &str) -> Result<()> {
        match &self.slots[slot].worker {
            Some(worker) => worker.signal(signal).await,
            None => Ok(()),
        }
    }
}
