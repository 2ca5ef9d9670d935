//! One relay as a process of its own.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kafka_client::{ClientSettings, ProducerSettings};
use outbox::{RelaySettings, RelayStatus, TickerSettings};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::variant::Variant;
use super::wrong_relays;

/// Short, so that owners change often.
pub(crate) const LEASE: Duration = Duration::from_millis(700);
/// Far more ticks than in life: each is a place where a window may end.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// `torture relay-process`
#[derive(Debug, clap::Args)]
pub struct RelayArguments {
    /// Its name among the relays
    #[arg(long)]
    owner: String,
    /// Which relay it is
    #[arg(long, value_enum)]
    relay: Variant,
    /// `host:port` list
    #[arg(long)]
    brokers: String,
    /// Where the outbox is
    #[arg(long, env = "COMMERCE_DATABASE_URL")]
    database_url: String,
}

/// Runs until `SIGTERM`, or until whoever started it is gone.
///
/// # Errors
/// Whatever ends the relay.
pub async fn run_relay(arguments: RelayArguments) -> Result<()> {
    let _scenario = fail::FailScenario::setup();
    let stop = crate::process::begin()?;
    let options = PgConnectOptions::from_str(&arguments.database_url)?.disable_statement_logging();
    let producer = ProducerSettings::new(ClientSettings::new(&arguments.brokers, &arguments.owner));
    if !arguments.relay.keeps_positions() {
        return wrong_relays::run(arguments.relay, &options, &producer, &stop).await;
    }
    let ticker =
        outbox::ticker::run(TickerSettings { interval: TICK_INTERVAL }, options.clone(), stop.clone());
    let ticker = tokio::spawn(ticker);
    let settings = settings(&arguments.owner, producer);
    outbox::relay::run(settings, options, None, stop, Arc::new(RelayStatus::default())).await?;
    ticker.await.context("the ticker has died")
}

/// Small batches, so that acknowledgements have gaps and positions lie inside windows.
fn settings(owner: &str, producer: ProducerSettings) -> RelaySettings {
    let mut settings = RelaySettings::new(owner, producer);
    settings.lease = LEASE;
    settings.batch_events_max = 20;
    settings.in_flight_events_max = 400;
    settings.position_interval = Duration::from_millis(5);
    settings.shutdown_grace = Duration::from_millis(500);
    settings
}
