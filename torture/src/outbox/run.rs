//! One run: traffic and faults together, then peace, then judgement.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use outbox::TickerSettings;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::faults::{SLOTS, disturb};
use super::judge::{Verdict, judge_topic};
use super::relay_process::TICK_INTERVAL;
use super::relays::Relays;
use super::stage::Stage;
use super::store;
use super::variant::Variant;
use super::writers::{Tally, write_all};
use crate::Server;
use crate::process::cleaned_up;

/// Time for publishing what is left when nothing is disturbed any more.
const DRAIN_MAX: Duration = Duration::from_secs(180);
/// A relay without positions is done when the topic has not grown for so long.
const QUIET: Duration = Duration::from_secs(3);
/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Pause between two progress lines: on a terminal, and elsewhere.
const PROGRESS_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// Age at which the retention that is wrong on purpose deletes.
const WRONG_RETENTION: Duration = Duration::from_millis(1_500);

/// What one run is made of.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// The program that has the subcommand `relay-process`.
    pub program: PathBuf,
    /// Seed of scripts and faults.
    pub seed: u64,
    /// The relay under torture.
    pub variant: Variant,
    /// Concurrent writers.
    pub writers: usize,
    /// Length of traffic and faults.
    pub traffic: Duration,
    /// The broker, if it may be stopped.
    pub broker: Option<Server>,
    /// Whether progress goes to standard error.
    pub shows_progress: bool,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The oracle's judgement.
    pub verdict: Verdict,
    /// Writes of positions that went backwards.
    pub moved_back: u64,
    /// Whether something was still unpublished after minutes without a disturbance.
    pub is_stuck: bool,
    /// Transactions rolled back, and events that were appended in vain by them or in savepoints.
    pub rolled_back: (u64, u64),
    /// Transactions that were prepared.
    pub prepared: u64,
    /// Faults made, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Length of the traffic.
    pub traffic: Duration,
    /// Time after it until everything was published.
    pub drained_after: Duration,
}

impl Outcome {
    /// What must not be, with its count; empty for a relay that is right.
    #[must_use]
    pub fn violations(&self) -> Vec<(&'static str, u64)> {
        let Verdict { lost, out_of_order, phantom, damaged, .. } = self.verdict;
        [
            ("lost", lost),
            ("out of order", out_of_order),
            ("phantom", phantom),
            ("damaged", damaged),
            ("positions moved back", self.moved_back),
            ("stuck", u64::from(self.is_stuck)),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
    }
}

/// Runs the torture once.
///
/// # Errors
/// Servers that do not answer, or a relay that ended by itself. Violations are no errors: they are in the outcome.
pub async fn run_once(settings: &RunSettings) -> Result<Outcome> {
    ensure!(
        settings.variant.failpoints().is_none() || fail::has_failpoints(),
        "relay {} exists only in builds with the feature `failpoints`",
        settings.variant
    );
    let stage = Arc::new(Stage::create().await?);
    let outcome = on_stage(settings, &stage).await;
    cleaned_up(outcome, stage.remove().await)
}

async fn on_stage(settings: &RunSettings, stage: &Arc<Stage>) -> Result<Outcome> {
    let tally = Arc::new(Tally::default());
    let helpers = Helpers::start(settings, stage, &tally);
    let mut relays = Relays::new(stage, settings.program.clone(), settings.variant, SLOTS).await?;
    let mut random = StdRng::seed_from_u64(settings.seed);
    let mut connection = stage.connect().await?;
    let begun = Instant::now();
    let stop = CancellationToken::new();
    let clock = async {
        // Whoever interrupts the torture wants its judgement.
        tokio::select! {
            () = tokio::time::sleep(settings.traffic) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
        anyhow::Ok(())
    };
    let broker = settings.broker.as_ref();
    tokio::try_join!(
        clock,
        write_all(stage, &tally, settings.writers, settings.seed, &stop),
        disturb(&mut relays, &mut connection, &mut random, broker, &stop)
    )?;
    let traffic = begun.elapsed();

    let begun = Instant::now();
    let is_stuck = !drain(stage, settings.variant, &mut relays).await?;
    let drained_after = begun.elapsed();
    for slot in 0..SLOTS {
        relays.stop(slot).await?;
    }
    helpers.stop().await?;
    let moved_back = store::count_moved_back(&mut connection).await?;
    let expected = store::list_expected(&mut connection).await?;
    let (client, topic) = (stage.client(), stage.topic.clone());
    let verdict = tokio::task::spawn_blocking(move || judge_topic(&client, &topic, expected)).await??;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    ensure!(verdict.committed == count(&tally.committed), "the oracle and its writers disagree");
    let outcome = Outcome {
        verdict,
        moved_back: u64::try_from(moved_back)?,
        is_stuck,
        rolled_back: (count(&tally.rolled_back), count(&tally.in_vain)),
        prepared: count(&tally.prepared),
        faults: std::mem::take(&mut relays.faults),
        traffic,
        drained_after,
    };
    if outcome.violations().is_empty() {
        relays.remove_logs();
    }
    Ok(outcome)
}

/// Waits until everything is published; answers whether that happened.
async fn drain(stage: &Stage, variant: Variant, relays: &mut Relays) -> Result<bool> {
    let mut connection = stage.connect().await?;
    let admin = kafka_client::admin::Admin::new(&stage.client())?;
    let begun = Instant::now();
    let mut grown = (0, Instant::now());
    while begun.elapsed() < DRAIN_MAX {
        relays.ensure_alive()?;
        let is_done = if variant.keeps_positions() {
            outbox::backlog(&mut connection).await?.rows == 0
        } else {
            let mut records = 0;
            for partition in 0..super::stage::PARTITIONS {
                records += admin.watermarks(&stage.topic, partition).await?.high;
            }
            if records > grown.0 {
                grown = (records, Instant::now());
            }
            grown.1.elapsed() >= QUIET
        };
        if is_done {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(false)
}

/// What goes on beside traffic and relays, from the beginning to the judgement.
struct Helpers {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Result<()>>>,
}

impl Helpers {
    fn start(settings: &RunSettings, stage: &Arc<Stage>, tally: &Arc<Tally>) -> Self {
        let stop = CancellationToken::new();
        let ticker = TickerSettings { interval: TICK_INTERVAL };
        let ticker = outbox::ticker::run(ticker, stage.database.options(), stop.clone());
        let mut tasks = vec![tokio::spawn(async {
            ticker.await;
            Ok(())
        })];
        if settings.variant == Variant::TruncatesEarly {
            tasks.push(tokio::spawn(delete_early(Arc::clone(stage), stop.clone())));
        }
        if settings.shows_progress {
            tasks.push(tokio::spawn(show_progress(Arc::clone(stage), Arc::clone(tally), stop.clone())));
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> Result<()> {
        self.stop.cancel();
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

async fn delete_early(stage: Arc<Stage>, stop: CancellationToken) -> Result<()> {
    let mut connection = stage.connect().await?;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        store::delete_older(&mut connection, WRONG_RETENTION).await?;
    }
    Ok(())
}

async fn show_progress(stage: Arc<Stage>, tally: Arc<Tally>, stop: CancellationToken) -> Result<()> {
    let mut connection = stage.connect().await?;
    let begun = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let (interval, ending) =
        if is_terminal { (PROGRESS_INTERVALS[0], "\r") } else { (PROGRESS_INTERVALS[1], "\n") };
    while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        let committed = tally.committed.load(Ordering::Relaxed);
        let waiting = outbox::backlog(&mut connection).await?.rows;
        eprint!(
            "{:>5} s  {committed} events committed, {waiting} to be published  {ending}",
            begun.elapsed().as_secs()
        );
    }
    if is_terminal {
        eprintln!();
    }
    Ok(())
}
