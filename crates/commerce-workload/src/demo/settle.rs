//! Waiting until everything that was committed has had its effect, and naming what has not.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use commerce_events::TOPICS;
use kafka_client::ClientSettings;
use kafka_client::admin::Admin;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::screen::Screen;
use super::store;

/// A pipeline that is not settled after this long is stuck.
const DEADLINE: Duration = Duration::from_secs(90);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The pipeline that is waited for.
pub(super) struct Pipeline {
    pub(super) database_url: String,
    pub(super) client: ClientSettings,
    pub(super) topic_prefix: String,
}

/// The ends of the logs by topic (without prefix) and partition.
pub(super) type Ends = BTreeMap<(String, i32), i64>;

impl Pipeline {
    /// Waits until the outbox is published, every partition is consumed to its end, dead letters are on their topics
    /// and the cache is owed nothing. Answers the ends of the logs.
    pub(super) async fn settle(&self, screen: &Screen) -> anyhow::Result<Ends> {
        let bar = screen.spinner("settling");
        let mut connection = PgConnection::connect_with(&store::options(&self.database_url)?).await?;
        let deadline = Instant::now() + DEADLINE;
        // Only what is published is in the logs, so their ends are final after this.
        loop {
            let left = store::unpublished(&mut connection).await?;
            if left == 0 {
                break;
            }
            self.wait(deadline, &bar, &format!("{left} events are not published")).await?;
        }
        let ends = self.ends().await?;
        loop {
            let unsettled = unsettled(&mut connection, &ends, &self.topic_prefix).await?;
            let Some(first) = unsettled.first() else { return Ok(ends) };
            let text = if unsettled.len() == 1 { first.clone() } else { unsettled.join("; ") };
            self.wait(deadline, &bar, &text).await?;
        }
    }

    async fn wait(&self, deadline: Instant, bar: &super::screen::Bar, what: &str) -> anyhow::Result<()> {
        if Instant::now() >= deadline {
            bail!("not settled after {} s: {what}", DEADLINE.as_secs());
        }
        bar.note(what);
        sleep(LOOK_INTERVAL).await;
        Ok(())
    }

    /// The ends of the event topics.
    async fn ends(&self) -> anyhow::Result<Ends> {
        let admin = Admin::new(&self.client)?;
        let mut ends = Ends::new();
        for topic in TOPICS {
            let found = admin.end_offsets(&format!("{}{topic}", self.topic_prefix)).await?;
            ends.extend(found.into_iter().map(|(partition, end)| ((topic.to_owned(), partition), end)));
        }
        Ok(ends)
    }
}

/// What is not settled yet, in words.
async fn unsettled(connection: &mut PgConnection, ends: &Ends, prefix: &str) -> anyhow::Result<Vec<String>> {
    let mut unsettled = behind(&store::progress(connection).await?, ends, prefix);
    let dead_letters = store::unpublished_dead_letters(connection).await?;
    if dead_letters > 0 {
        unsettled.push(format!("{dead_letters} dead letters are not on their topics"));
    }
    let intents = store::owed_intents(connection).await?;
    if intents > 0 {
        unsettled.push(format!("{intents} cache invalidations are owed"));
    }
    Ok(unsettled)
}

/// Partitions that some group, or nobody, has consumed to the end.
fn behind(progress: &[store::Progress], ends: &Ends, prefix: &str) -> Vec<String> {
    let mut behind = Vec::new();
    for ((topic, partition), end) in ends {
        if *end == 0 {
            continue;
        }
        let of_partition: Vec<&store::Progress> = progress
            .iter()
            .filter(|row| {
                row.topic.strip_prefix(prefix).unwrap_or(&row.topic) == topic && row.partition == *partition
            })
            .collect();
        if of_partition.is_empty() {
            behind.push(format!("{topic}/{partition} is not consumed by anybody"));
        }
        for row in of_partition {
            if row.next_offset < *end {
                let left = end - row.next_offset;
                behind.push(format!("{} is {left} records behind on {topic}/{partition}", row.group_name));
            }
        }
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(topic: &str, partition: i32, next_offset: i64) -> store::Progress {
        store::Progress { group_name: "metrics".to_owned(), topic: topic.to_owned(), partition, next_offset }
    }

    #[test]
    fn a_partition_is_settled_when_every_group_is_at_its_end() {
        let ends = Ends::from([(("view-events".to_owned(), 0), 10), (("view-events".to_owned(), 1), 0)]);
        assert_eq!(behind(&[row("view-events", 0, 10)], &ends, "demo-").len(), 0);
        assert_eq!(behind(&[row("demo-view-events", 0, 10)], &ends, "demo-").len(), 0);
        let lagging = [row("view-events", 0, 10), row("view-events", 0, 7)];
        assert_eq!(behind(&lagging, &ends, "demo-"), ["metrics is 3 records behind on view-events/0"]);
        assert_eq!(
            behind(&[row("view-events", 1, 0)], &ends, ""),
            ["view-events/0 is not consumed by anybody"]
        );
    }
}
