//! One run: traffic and troubles together, then peace, then judgement, then the redrive of what was poison.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use inbox::dead_letter::{self, Mandate, RedriveSettings, Selection};
use kafka_client::ProducerSettings;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::PgConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::checker::{Checked, check};
use super::judge::{Violations, count_unsent, judge, judge_strict};
use super::members::Members;
use super::mix::Mix;
use super::operator::{self, Act};
use super::point::Trouble;
use super::stage::Stage;
use super::store;
use super::traffic::{Ledger, produce};
use super::trouble::Troublemaker;
use super::variant::Variant;
use crate::Server;
use crate::process::cleaned_up;

/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What one run is made of.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// The program that has the subcommand `inbox-process`.
    pub program: PathBuf,
    /// Of the traffic and of the troubles' details.
    pub seed: u64,
    /// The consumer.
    pub variant: Variant,
    /// Members of the group.
    pub members: usize,
    /// What its traffic is like.
    pub mix: Mix,
    /// One after the other.
    pub troubles: Vec<Trouble>,
    /// The troubles begin anew until so much time is over; they are made once at least.
    pub traffic: Duration,
    /// Longest wait until everything is consumed when nothing is disturbed any more.
    pub drain_max: Duration,
    /// Those that may be stopped; a trouble that stops another one fails the run.
    pub servers: Servers,
    /// Whether progress goes to standard error.
    pub shows_progress: bool,
}

/// The servers that a run may stop.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    /// Kafka.
    pub broker: Option<Server>,
    /// PostgreSQL.
    pub postgres: Option<Server>,
}

impl Servers {
    /// The restarts that can be made.
    #[must_use]
    pub fn restarts(&self) -> Vec<Trouble> {
        let broker = self.broker.iter().map(|_| Trouble::BrokerRestart);
        broker.chain(self.postgres.iter().map(|_| Trouble::PostgresRestart)).collect()
    }

    /// Starts whatever a run has left stopped.
    pub(crate) async fn restore(&self) -> Result<()> {
        for server in self.broker.iter().chain(&self.postgres) {
            server.restore().await?;
        }
        Ok(())
    }
}

impl RunSettings {
    /// `3 x poison`
    pub(crate) fn cell_name(&self) -> String {
        format!("{} x {}", self.members, self.mix)
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What must not be, with its count; empty for a consumer that is right.
    pub violations: BTreeMap<&'static str, u64>,
    /// What was wrong first in a snapshot.
    pub first: Option<String>,
    /// Where the members' logs are, if anything is wrong.
    pub logs: Option<String>,
    /// Troubles that came about, by name.
    pub made: BTreeMap<&'static str, u64>,
    /// Those that did not, although they were tried: the run proves less than it should.
    pub unreached: Vec<&'static str>,
    /// Events produced.
    pub events: u64,
    /// Records of events, with those that were sent again.
    pub records: u64,
    /// Records that became dead letters.
    pub letters: u64,
    /// Snapshots in which the sums were compared.
    pub snapshots: u64,
    /// Letters redriven, by operators during the traffic or behind it.
    pub redriven: u64,
    /// Length of the whole run.
    pub took: Duration,
}

/// Runs the torture once.
///
/// # Errors
/// Servers that do not answer, or a member that ended by itself. Violations are no errors: they are in the outcome.
pub async fn run_once(settings: &RunSettings) -> Result<Outcome> {
    ensure!(fail::has_failpoints(), "members can be killed only in builds with the feature `failpoints`");
    let stage = Arc::new(Stage::create().await?);
    let outcome = on_stage(settings, &stage).await;
    cleaned_up(outcome, stage.remove().await)
}

async fn on_stage(settings: &RunSettings, stage: &Arc<Stage>) -> Result<Outcome> {
    let begun = Instant::now();
    let mut members = Members::new(stage, settings);
    let (ledger, mut outcome) = (Mutex::new(Ledger::default()), Outcome::default());
    let (end_of_traffic, end) = (CancellationToken::new(), CancellationToken::new());
    let work = async {
        let worked = async {
            let producing = produce(stage, &ledger, settings.seed, settings.mix, &end_of_traffic);
            let operating = async {
                if settings.mix == Mix::Strict {
                    operator::operate(stage, settings.seed, &end_of_traffic).await
                } else {
                    Ok(0)
                }
            };
            let troubling = async {
                let made = make_troubles(settings, stage, &mut members, &mut outcome).await;
                end_of_traffic.cancel();
                made
            };
            let ((), redriven, ()) = tokio::try_join!(producing, operating, troubling)?;
            outcome.redriven = redriven;
            let ledger = ledger.lock().map(|mut ledger| std::mem::take(&mut *ledger));
            let ledger = ledger.map_err(|_| anyhow!("the producer panicked"))?;
            settle(settings, stage, &mut members, &ledger, &mut outcome).await
        };
        let worked = worked.await;
        end.cancel();
        worked
    };
    let (checked, ()) = tokio::try_join!(check(stage, settings.servers.postgres.as_ref(), &end), work)?;
    let Checked { snapshots, wrong, first } = checked;
    if wrong > 0 {
        outcome.violations.insert("snapshots whose sums disagree", wrong);
    }
    (outcome.snapshots, outcome.first, outcome.took) = (snapshots, first, begun.elapsed());
    if outcome.violations.is_empty() && outcome.unreached.is_empty() {
        members.remove_logs();
    } else {
        outcome.logs = Some(members.log_files());
    }
    Ok(outcome)
}

async fn make_troubles(
    settings: &RunSettings,
    stage: &Stage,
    members: &mut Members,
    outcome: &mut Outcome,
) -> Result<()> {
    let begun = Instant::now();
    for slot in 0..members.count {
        members.start(slot, None)?;
    }
    for slot in 0..members.count {
        match members.owns(slot).await {
            // A wrong consumer may hold itself up; what it did says so.
            Err(_) if settings.variant != Variant::Right => break,
            owned => owned?,
        }
    }
    let (connection, random) = (stage.connect().await?, StdRng::seed_from_u64(settings.seed));
    let mut maker = Troublemaker { stage, members, servers: &settings.servers, connection, random };
    let mut slot = 0;
    for round in 1_u32.. {
        for trouble in &settings.troubles {
            slot = (slot + 1) % settings.members;
            let name = trouble.name();
            if maker.make(*trouble, slot).await.with_context(|| name)? {
                *outcome.made.entry(name).or_default() += 1;
                if round == 1 {
                    tell(settings, begun, name);
                }
            } else {
                outcome.unreached.push(name);
                tell(settings, begun, &format!("{name}: NOT REACHED"));
            }
        }
        if round > 1 && !settings.troubles.is_empty() {
            tell(settings, begun, &format!("all of it {round} times"));
        }
        if begun.elapsed() >= settings.traffic {
            break;
        }
        // Without troubles there is only traffic.
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// A line of progress.
fn tell(settings: &RunSettings, begun: Instant, text: &str) {
    if settings.shows_progress {
        eprintln!("{:>5} s  {}: {text}", begun.elapsed().as_secs(), settings.cell_name());
    }
}

/// Peace: what is left is consumed, and judged; then the poison is mended, brought back, and judged.
async fn settle(
    settings: &RunSettings,
    stage: &Stage,
    members: &mut Members,
    ledger: &Ledger,
    outcome: &mut Outcome,
) -> Result<()> {
    let connection = &mut stage.connect().await?;
    outcome.events = u64::try_from(ledger.events.len())?;
    outcome.records = ledger.records;
    let is_drained = drain(settings, stage, connection).await?;
    let violations = &mut outcome.violations;
    if settings.mix != Mix::Strict {
        add(violations, judge(connection, ledger, false).await?);
        add(violations, [("letters not on their topic", count_unsent(stage, connection).await?)].into());
    }
    outcome.letters = u64::try_from(store::list_letters(connection).await?.len())?;
    if is_drained && settings.mix.has_poison() && violations.is_empty() {
        store::allow_forbidden(connection).await?;
        members.mend().await?;
        let is_drained = if settings.mix == Mix::Strict {
            outcome.redriven += release_all(settings, stage, connection).await?;
            let is_drained = drain(settings, stage, connection).await?;
            add(violations, judge_strict(connection, ledger).await?);
            is_drained
        } else {
            outcome.redriven += redrive(stage, connection).await?;
            let is_drained = drain(settings, stage, connection).await?;
            add(violations, judge(connection, ledger, true).await?);
            is_drained
        };
        add(violations, [("not consumed to the end", u64::from(!is_drained))].into());
    }
    for slot in 0..members.count {
        // Of a wrong consumer only the verdict counts.
        if settings.variant == Variant::Right {
            members.stop(slot).await?;
        } else {
            members.kill(slot).await?;
        }
    }
    let deadlocks = u64::try_from(store::count_deadlocks(connection).await?)?;
    let violations = &mut outcome.violations;
    add(violations, [("not consumed to the end", u64::from(!is_drained)), ("deadlocks", deadlocks)].into());
    Ok(())
}

fn add(violations: &mut BTreeMap<&'static str, u64>, found: Violations) {
    for (what, count) in found {
        if count > 0 {
            *violations.entry(what).or_default() += count;
        }
    }
}

/// Waits until every record is passed, every letter is said to be published and every invalidation is done; answers
/// whether that happened.
async fn drain(settings: &RunSettings, stage: &Stage, connection: &mut PgConnection) -> Result<bool> {
    let begun = Instant::now();
    let topic = stage.topic();
    while begun.elapsed() < settings.drain_max {
        let ends = stage.admin.end_offsets(&topic).await?;
        let offsets = store::list_offsets(connection, &topic).await?;
        let is_passed = ends.iter().all(|(partition, end)| offsets.get(partition) == Some(end));
        if is_passed
            && store::count_unpublished(connection).await? == 0
            && store::count_intents(connection).await? == 0
        {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(false)
}

/// Brings back what operators have left, until nothing waits any more or the wait is over; answers how many letters it took.
async fn release_all(settings: &RunSettings, stage: &Stage, connection: &mut PgConnection) -> Result<u64> {
    let (begun, mut redriven) = (Instant::now(), 0);
    while begun.elapsed() < settings.drain_max {
        redriven += operator::act(connection, stage.client(), Act::Redrive).await?;
        if store::count_waiting(connection).await? == (0, 0) {
            break;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(redriven)
}

/// Brings every letter back; answers how many.
async fn redrive(stage: &Stage, connection: &mut PgConnection) -> Result<u64> {
    let settings = RedriveSettings::new(ProducerSettings::new(stage.client()));
    let mandate = Mandate::new(Uuid::now_v7(), "torture", "the poison is mended")?;
    let stop = CancellationToken::new();
    let report =
        dead_letter::redrive(connection, &settings, &Selection::default(), &mandate, &stop, |_| ()).await?;
    ensure!(report.done == report.matched, "{report:?}");
    Ok(report.done)
}
