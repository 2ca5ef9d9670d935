//! Whether everything that was committed has had its effect, and what has not.
//!
//! Settled means: the outbox is published; every consumer group's stored offset is at the end that each log had after
//! that; dead letters are on their topics; no cache invalidation is owed. While traffic goes on, that is said of the
//! moment when the outbox was found empty.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use commerce_events::TOPICS;
use kafka_client::ClientSettings;
use kafka_client::admin::Admin;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::store::{self, Progress, UNPUBLISHED_COUNTED_MAX};

/// How often the pipeline is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// So often what is waited for is told.
const TELL_EVERY: u32 = 10;

/// Where a pipeline's state is.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The shop's database: schemas `shop` and `outbox`.
    pub shop_url: String,
    /// The streamer's database: schemas `metrics` and `inbox`; may be the same.
    pub metrics_url: String,
    /// The brokers.
    pub kafka: ClientSettings,
    /// In front of every topic and group.
    pub topic_prefix: String,
}

/// The ends of the logs, by topic (without prefix) and partition.
pub type Ends = BTreeMap<(String, i32), i64>;

/// Whether the pipeline has settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settling {
    /// Everything had its effect up to the ends of these logs.
    Settled(Ends),
    /// What is not done yet, in words; never empty.
    Unsettled(Vec<String>),
}

/// Waits until the pipeline has settled, for `wait` at most; looks once if that is zero. `tell` hears now and then what
/// is waited for.
///
/// # Errors
/// When a database or the brokers do not answer.
pub async fn wait_settled(
    pipeline: &Pipeline,
    wait: Duration,
    mut tell: impl FnMut(&str) + Send,
) -> anyhow::Result<Settling> {
    let mut shop = connect(&pipeline.shop_url).await.context("connecting to the shop's database")?;
    let mut metrics = connect(&pipeline.metrics_url).await.context("connecting to the metrics database")?;
    let deadline = Instant::now() + wait;
    let mut looks = 0_u32;
    let mut ends = None;
    loop {
        let unsettled = match &ends {
            None => {
                let unpublished = store::count_unpublished(&mut shop).await?;
                if unpublished == 0 {
                    // Only what is published is in the logs: their ends cover everything committed until now.
                    ends = Some(log_ends(pipeline).await?);
                    continue;
                }
                vec![unpublished_text(unpublished)]
            }
            Some(ends) => unsettled(&mut metrics, ends, &pipeline.topic_prefix).await?,
        };
        match ends.take() {
            Some(reached) if unsettled.is_empty() => return Ok(Settling::Settled(reached)),
            other => ends = other,
        }
        if Instant::now() >= deadline {
            return Ok(Settling::Unsettled(unsettled));
        }
        if looks.is_multiple_of(TELL_EVERY) {
            tell(&unsettled.join("; "));
        }
        looks = looks.saturating_add(1);
        sleep(LOOK_INTERVAL).await;
    }
}

/// The ends of the logs of every topic now.
pub(super) async fn log_ends(pipeline: &Pipeline) -> anyhow::Result<Ends> {
    let admin = Admin::new(&pipeline.kafka)?;
    let mut ends = Ends::new();
    for topic in TOPICS {
        let name = format!("{}{topic}", pipeline.topic_prefix);
        let partitions = admin.end_offsets(&name).await?;
        ensure!(!partitions.is_empty(), "topic {name} does not exist");
        ends.extend(partitions.into_iter().map(|(partition, end)| ((topic.to_owned(), partition), end)));
    }
    Ok(ends)
}

/// Whether every event is published.
pub(super) async fn is_published(pipeline: &Pipeline) -> anyhow::Result<bool> {
    Ok(store::count_unpublished(&mut connect(&pipeline.shop_url).await?).await? == 0)
}

pub(super) async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options = runtime::database::connect_options(url, "commerce-verify")?;
    Ok(PgConnection::connect_with(&options).await?)
}

fn unpublished_text(rows: i64) -> String {
    let more = if rows >= UNPUBLISHED_COUNTED_MAX { " or more" } else { "" };
    format!("{rows}{more} events are not published")
}

async fn unsettled(metrics: &mut PgConnection, ends: &Ends, prefix: &str) -> anyhow::Result<Vec<String>> {
    let mut unsettled = behind(&store::list_progress(metrics).await?, ends, prefix);
    let dead_letters = store::count_new_dead_letters(metrics).await?;
    if dead_letters > 0 {
        unsettled.push(format!("{dead_letters} dead letters are not on their topics"));
    }
    let intents = store::count_owed_intents(metrics).await?;
    if intents > 0 {
        unsettled.push(format!("{intents} cache invalidations are owed"));
    }
    Ok(unsettled)
}

/// The name of a topic without the environment's prefix, however it is stored.
pub(super) fn plain_topic<'a>(stored: &'a str, prefix: &str) -> &'a str {
    stored.strip_prefix(prefix).unwrap_or(stored)
}

/// Partitions that are not read to their end by every group that reads their topic, or by nobody.
fn behind(progress: &[Progress], ends: &Ends, prefix: &str) -> Vec<String> {
    let mut behind = Vec::new();
    for ((topic, partition), end) in ends.iter().filter(|(_, end)| **end > 0) {
        let of_topic = || progress.iter().filter(|row| plain_topic(&row.topic, prefix) == topic);
        let groups: BTreeSet<&str> = of_topic().map(|row| row.group_name.as_str()).collect();
        if groups.is_empty() {
            behind.push(format!("{topic}/{partition} is consumed by nobody"));
        }
        for group in groups {
            let row = of_topic().find(|row| row.group_name == group && row.partition == *partition);
            let left = end - row.map_or(0, |row| row.next_offset);
            if left > 0 {
                behind.push(format!("{group} is {left} records behind on {topic}/{partition}"));
            }
        }
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::{Ends, Progress, behind, unpublished_text};

    fn row(group: &str, topic: &str, partition: i32, next_offset: i64) -> Progress {
        Progress {
            group_name: group.to_owned(),
            topic: topic.to_owned(),
            partition,
            next_offset,
            first_offset: 0,
            handled: 0,
            duplicates: 0,
            dead_lettered: 0,
            skipped: 0,
        }
    }

    #[test]
    fn every_group_of_a_topic_must_be_at_every_end() {
        let views = "view-events".to_owned();
        let ends = Ends::from([((views.clone(), 0), 10), ((views.clone(), 1), 3), ((views, 2), 0)]);
        let at_end = [row("m", "view-events", 0, 10), row("m", "view-events", 1, 3)];
        assert!(behind(&at_end, &ends, "p-").is_empty(), "an empty partition is settled");
        let prefixed = [row("m", "p-view-events", 0, 10), row("m", "p-view-events", 1, 3)];
        assert!(behind(&prefixed, &ends, "p-").is_empty());
        let half = [row("m", "view-events", 0, 9), row("n", "view-events", 1, 3)];
        assert_eq!(
            behind(&half, &ends, ""),
            [
                "m is 1 records behind on view-events/0",
                "n is 10 records behind on view-events/0",
                "m is 3 records behind on view-events/1",
            ]
        );
        let other = [row("s", "stock-events", 0, 10)];
        assert_eq!(behind(&other, &ends, "").len(), 2);
        assert!(behind(&other, &ends, "")[0].contains("nobody"));
    }

    #[test]
    fn a_huge_backlog_is_not_counted_to_its_end() {
        assert_eq!(unpublished_text(3), "3 events are not published");
        assert_eq!(unpublished_text(100_000), "100000 or more events are not published");
    }
}
