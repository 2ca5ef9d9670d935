//! `commerce streamer offsets`: look at stored offsets, move one, resume a halted partition.

use std::process::ExitCode;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use inbox::offsets::{OffsetChange, OffsetTarget, Operator, StoredOffset, change_offset, list_offsets};
use sqlx::{Connection, PgConnection};

use super::operator::OperatorArguments;
use crate::config::Config;

/// What `commerce streamer` does besides being the role.
#[derive(clap::Subcommand)]
pub(crate) enum StreamerTask {
    /// Stored offsets: where each consumer group goes on reading
    #[command(subcommand)]
    Offsets(OffsetsTask),
}

/// `commerce streamer offsets …`
#[derive(clap::Subcommand)]
pub(crate) enum OffsetsTask {
    /// List them, with what is halted
    Show {
        /// Only this consumer group, without the topic prefix
        #[arg(long)]
        group: Option<String>,
    },
    /// Go on reading elsewhere. Forward skips records for good; back counts nothing twice
    Set {
        #[command(flatten)]
        target: Target,
        /// The next offset to read
        #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
        offset: i64,
    },
    /// Go on reading a halted partition where it was halted
    Resume {
        #[command(flatten)]
        target: Target,
    },
}

/// Which offset, and who asks.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Consumer group, without the topic prefix
    #[arg(long)]
    group: String,
    /// Topic, without the topic prefix
    #[arg(long)]
    topic: String,
    /// Partition
    #[arg(long)]
    partition: i32,
    #[command(flatten)]
    operator: OperatorArguments,
}

pub(crate) async fn run(config: &Config, task: StreamerTask) -> anyhow::Result<ExitCode> {
    let StreamerTask::Offsets(task) = task;
    let mut connection = PgConnection::connect_with(&runtime::database::connect_options(
        config.metrics_url(),
        "commerce-offsets",
    )?)
    .await
    .context("the metrics database does not answer")?;
    match task {
        OffsetsTask::Show { group } => {
            let group = group.map(|group| config.kafka.topic(&group));
            let offsets = list_offsets(&mut connection, group.as_deref()).await?;
            println!("from table inbox.progress, {} partitions", offsets.len());
            for offset in &offsets {
                println!("{}", line(offset));
            }
        }
        OffsetsTask::Set { target, offset } => {
            change(config, &mut connection, target, OffsetChange::Set(offset)).await?;
        }
        OffsetsTask::Resume { target } => {
            change(config, &mut connection, target, OffsetChange::Resume).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn change(
    config: &Config,
    connection: &mut PgConnection,
    target: Target,
    change: OffsetChange,
) -> anyhow::Result<()> {
    let Target { group, topic, partition, operator } = target;
    let dry_run = operator.dry_run;
    let name = |name: &str| config.kafka.topic(name);
    let target = OffsetTarget { consumer_group: name(&group), topic: name(&topic), partition };
    // What a dry run writes down does not stay.
    let (by, reason) = if dry_run { ("", "") } else { operator.who_and_why()? };
    let operator = Operator { by: by.to_owned(), reason: reason.to_owned() };
    let (before, after) = change_offset(connection, &target, change, &operator, dry_run).await?;
    println!("before  {}", line(&before));
    println!("after   {}", line(&after));
    println!(
        "{}",
        if dry_run { "dry run: nothing was changed" } else { "a streamer that runs notices by itself" }
    );
    Ok(())
}

/// The topic's id as Kafka's own tools write it.
fn line(offset: &StoredOffset) -> String {
    let topic_id = offset.topic_id.map_or_else(|| "unknown".to_owned(), |id| URL_SAFE_NO_PAD.encode(id));
    let halted = offset.halted.as_ref().map(|reason| format!("  HALTED: {reason}")).unwrap_or_default();
    format!(
        "{}  {}[{}]  next offset {}  moved at {} by {}  topic id {topic_id}{halted}",
        offset.consumer_group,
        offset.topic,
        offset.partition,
        offset.next_offset,
        offset.updated_at.format("%Y-%m-%dT%H:%M:%SZ"),
        offset.owner.as_deref().unwrap_or("nobody"),
    )
}
