//! The demo: every role as a process, seeded traffic, faults while it runs, and the proof that nothing was lost or
//! counted twice.
//!
//! Invariant: what must be shown comes from the ledger of acknowledged responses ([`crate::ledger`]); the pipeline is
//! only read to compare. A run has its own database, topics and cache keys, and stops every process that it started.

mod broker;
mod check;
mod faults;
mod isolation;
mod poison;
mod prober;
mod report;
mod resend;
mod roles;
mod schedule;
mod screen;
mod settle;
mod stage;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use broker::Broker;
pub use check::Line;
use isolation::Isolation;
use roles::{Role, Roles};
use screen::Screen;
use stage::Stage;

use crate::output::publish;

/// The buyer as whom a person signs in: one of the traffic's, so that there are orders to look at.
const VISITOR: &str = "1";

/// What the demo does, on which servers.
#[derive(Debug, Clone)]
pub struct DemoSettings {
    /// Decides all traffic.
    pub seed: u64,
    /// Commands of all buyers together.
    pub commands: u64,
    /// Buyers.
    pub buyers: u64,
    /// Products.
    pub products: usize,
    /// Leave the roles running after the proof, until Ctrl-C; database and topics are not dropped.
    pub keep: bool,
    /// Where to write the figures; `-` is standard output.
    pub json: Option<PathBuf>,
    /// The `commerce` executable to run the roles from.
    pub binary: PathBuf,
    /// A PostgreSQL server where databases can be created.
    pub database_url: String,
    /// `host:port` list.
    pub kafka_brokers: String,
    /// The cache.
    pub redis_url: String,
    /// The command that stops Kafka; without it there is no outage.
    pub broker_stop: Option<Vec<String>>,
    /// The command that starts it again.
    pub broker_start: Option<Vec<String>>,
    /// Where the roles' logs go.
    pub run_dir: PathBuf,
    /// Records of the topics to send a second time.
    pub duplicates: usize,
    /// Poison records to send.
    pub poison: usize,
    /// Times that the relay is killed.
    pub relay_kills: usize,
    /// Times that the streamer is killed.
    pub streamer_kills: usize,
}

/// What the proof showed.
#[derive(Debug, Clone)]
pub struct DemoOutcome {
    /// Every line is exact and nothing is ambiguous.
    pub exact: bool,
    /// The lines of the table.
    pub lines: Vec<Line>,
}

/// Runs the demo from an empty database to the proof, and prints the table.
///
/// # Errors
/// When a server does not answer, a role dies by itself, an answer breaks the contract, the pipeline does not settle,
/// or on Ctrl-C. A proof that fails is no error: see [`DemoOutcome::exact`].
pub async fn run(settings: DemoSettings) -> anyhow::Result<DemoOutcome> {
    let screen = Screen::new();
    let settings = Arc::new(settings);
    let isolation = Isolation::create(&settings).await?;
    let run_dir = settings.run_dir.join(&isolation.name);
    let roles = Arc::new(Roles::new(&settings.binary, &run_dir, isolation.environment(&settings))?);
    screen.line(&format!(
        "database {}, topics {}*, logs in {}",
        isolation.name,
        isolation.topic_prefix,
        run_dir.display()
    ));
    let broker = Arc::new(Broker::new(settings.broker_stop.clone(), settings.broker_start.clone()));
    let stage = Stage::new(&settings, &isolation, &roles, &broker, &screen);
    let mut ended = Box::pin(guarded(&roles, stage.play())).await;
    if let Ok(report) = &ended {
        ended = publish(report, settings.json.as_deref()).map(|()| report.clone());
        if settings.keep {
            ended = stay(&roles, &screen).await.and(ended);
        }
    }
    for (role, status) in roles.stop().await? {
        screen.line(&format!("{role} did not end well when asked to: {status}"));
    }
    broker.restore().await?;
    let report = ended
        .with_context(|| format!("logs are in {}, database {} is left", run_dir.display(), isolation.name))?;
    if report.exact() && !settings.keep {
        isolation.remove(&settings).await?;
    }
    Ok(DemoOutcome { exact: report.exact(), lines: report.lines })
}

/// Gives `work` up when a role dies by itself or the user interrupts.
async fn guarded<T>(roles: &Roles, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        outcome = work => outcome,
        error = roles.watch() => Err(error),
        reason = interruption() => Err(anyhow!(reason?)),
    }
}

/// Waits for the user to end it.
async fn interruption() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "interrupted"),
        _ = terminate.recv() => Ok("terminated"),
    }
}

/// Shows where everything is, and waits to be interrupted; a role that dies meanwhile is an error.
async fn stay(roles: &Roles, screen: &Screen) -> anyhow::Result<()> {
    roles.start(Role::Storefront).await?;
    let token = roles.run_once("token", &["issue", "--user", VISITOR, "--scope", "buyer"]).await?;
    let shop = roles.url(Role::Storefront);
    screen.line(&format!("the shop: {shop}/"));
    screen.line(&format!(
        "to buy in it, sign in at {shop}/sign-in with this token of buyer {VISITOR}: {token}"
    ));
    screen.line(&format!("the api, which believes X-USER-ID: {}/api/v1/products", roles.url(Role::Api)));
    for (role, pid, management) in roles.list().await {
        screen.line(&format!("{role}: pid {pid}, {management}/health/ready, {management}/metrics"));
    }
    screen.line("everything goes on running; Ctrl-C stops it and leaves database and topics");
    tokio::select! {
        error = roles.watch() => Err(error),
        reason = interruption() => {
            screen.line(reason?);
            Ok(())
        }
    }
}
