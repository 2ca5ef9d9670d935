//! One member of the consumer group as a process of its own.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use inbox::dead_letter::{DeadLetterPublisher, PublisherSettings};
use inbox::{BlockedLimits, ConsumerSettings, FloodLimits, StreamerStatus};
use kafka_client::{ClientSettings, ProducerSettings};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::event::TOPIC;
use super::projection::Tortured;
use super::variant::Variant;

/// The shortest that brokers allow.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Long enough for every transaction, short enough that a frozen member's successors need not wait for long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Behind the prefix, the group's name.
pub(crate) const GROUP: &str = "tortured";
/// How often letters are looked for.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// `torture inbox-process`
#[derive(Debug, clap::Args)]
pub struct MemberArguments {
    /// Its name in `inbox.progress`, of this process alone
    #[arg(long)]
    owner: String,
    /// Static membership: its name in the group, which its successor takes over
    #[arg(long)]
    instance: Option<String>,
    /// In front of topics and group
    #[arg(long)]
    prefix: String,
    /// Which consumer it is
    #[arg(long, value_enum)]
    consumer: Variant,
    /// The release that can decode what was bad
    #[arg(long)]
    mended: bool,
    /// The projection is strict about the order of keys
    #[arg(long)]
    strict: bool,
    /// `host:port` list
    #[arg(long)]
    brokers: String,
    /// Where the inbox is
    #[arg(long, env = "COMMERCE_DATABASE_URL")]
    database_url: String,
}

/// Runs until `SIGTERM`, or until whoever started it is gone.
///
/// # Errors
/// Whatever ends the consumer.
pub async fn run_member(arguments: MemberArguments) -> Result<()> {
    let _scenario = fail::FailScenario::setup();
    let stop = crate::process::begin()?;
    let options = PgConnectOptions::from_str(&arguments.database_url)?.disable_statement_logging();
    let settings = settings(&arguments);
    let projection =
        Arc::new(Tortured::new(arguments.consumer, arguments.mended, arguments.strict, options.clone()));
    let sweeping = Arc::clone(&projection);
    tokio::spawn(async move { sweeping.sweep().await });
    let producer = ProducerSettings::new(settings.kafka.client.clone());
    let mut letters = PublisherSettings::new(vec![settings.kafka.group.clone()], producer);
    letters.interval = PUBLISH_INTERVAL;
    let publisher = DeadLetterPublisher::new(letters, options.clone())?;
    tokio::spawn(publisher.run(stop.clone()));
    inbox::streamer::run(settings, options, projection, stop, Arc::new(StreamerStatus::default())).await?;
    Ok(())
}

/// Small batches, so that there are many transactions to die in; no flood guard, because poison is what this is about.
fn settings(arguments: &MemberArguments) -> ConsumerSettings {
    let name = |name: &str| format!("{}{name}", arguments.prefix);
    let client = ClientSettings::new(&arguments.brokers, &arguments.owner);
    let mut kafka = kafka_client::ConsumerSettings::new(client, name(GROUP), vec![name(TOPIC)]);
    kafka.instance.clone_from(&arguments.instance);
    kafka.session_timeout = SESSION_TIMEOUT;
    kafka.batch_records_max = 200;
    let mut settings = ConsumerSettings::new(kafka, &arguments.prefix);
    settings.transaction_timeout = TRANSACTION_TIMEOUT;
    // Poison that waits for its release may be all that there is of it.
    settings.blocked = BlockedLimits { keys_max: 0, letters_max: 0 };
    settings.flood = FloodLimits { in_a_row_max: 0, window_letters_max: 0, ..FloodLimits::default() };
    settings
}
