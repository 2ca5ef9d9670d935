//! Where partitions begin: the stored offset, or the log's start for a partition that was never read.

use std::time::Duration;

use futures_util::future::join_all;
use kafka_client::admin::Watermarks;
use kafka_client::{TopicPartition, WatermarkReader};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use super::failure::chain;
use super::session::{connect, session_options};
use crate::status::StopReason;
use crate::store::progress::{find_group, find_offset, insert_group, insert_progress};

/// First and longest wait while the database is away.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Where one partition begins, or why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) origin: TopicPartition,
    pub(crate) offset: Result<i64, (i64, StopReason)>,
}

/// The answer to an assignment.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// `None` for partitions that were left out earlier.
    pub(crate) rebalance: Option<u64>,
    pub(crate) group: i16,
    pub(crate) beginnings: Vec<Beginning>,
}

/// What is to be loaded, and for whom.
pub(crate) struct Loader {
    pub(crate) options: PgConnectOptions,
    pub(crate) watermarks: WatermarkReader,
    pub(crate) group: String,
    pub(crate) owner: String,
}

impl Loader {
    /// Waits for the database for as long as it takes; for a partition's leader only as long as one question takes.
    pub(crate) async fn load(self, rebalance: Option<u64>, partitions: Vec<TopicPartition>) -> Loaded {
        let watermarks = join_all(partitions.iter().map(|origin| self.watermarks.read(origin))).await;
        let known: Vec<(TopicPartition, Option<Watermarks>)> = partitions
            .into_iter()
            .zip(watermarks)
            .map(|(origin, found)| {
                if let Err(error) = &found {
                    tracing::warn!(partition = %origin, error = chain(error), "log start and end are not known");
                }
                (origin, found.ok())
            })
            .collect();
        let mut pause = BACKOFF_FIRST;
        loop {
            match self.read(&known).await {
                Ok((group, beginnings)) => return Loaded { rebalance, group, beginnings },
                Err(error) => {
                    tracing::warn!(error = chain(&error), "stored offsets are not known");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(BACKOFF_MAX);
                }
            }
        }
    }

    async fn read(
        &self,
        partitions: &[(TopicPartition, Option<Watermarks>)],
    ) -> Result<(i16, Vec<Beginning>), sqlx::Error> {
        let mut connection = connect(&session_options(&self.options)).await?;
        let group = self.group_number(&mut connection).await?;
        let mut beginnings = Vec::with_capacity(partitions.len());
        for (origin, watermarks) in partitions {
            let mut stored = find_offset(&mut connection, group, origin).await?;
            if let (None, Some(watermarks)) = (&stored, watermarks) {
                insert_progress(&mut connection, group, origin, watermarks.low, &self.owner).await?;
                stored = find_offset(&mut connection, group, origin).await?;
            }
            beginnings
                .push(Beginning { origin: origin.clone(), offset: decide_beginning(stored, *watermarks) });
        }
        Ok((group, beginnings))
    }

    async fn group_number(&self, connection: &mut PgConnection) -> Result<i16, sqlx::Error> {
        if let Some(group) = find_group(connection, &self.group).await? {
            return Ok(group);
        }
        insert_group(connection, &self.group).await?;
        find_group(connection, &self.group).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// Without watermarks the broker judges the offset when it is read. `stored` is an offset, and why it is not read.
fn decide_beginning(
    stored: Option<(i64, Option<String>)>,
    watermarks: Option<Watermarks>,
) -> Result<i64, (i64, StopReason)> {
    let stored = match stored {
        Some((stored, Some(halted))) => return Err((stored, StopReason::Halted(halted))),
        Some((stored, None)) => Some(stored),
        None => None,
    };
    match (stored, watermarks) {
        (None, _) => Err((0, StopReason::LogUnknown)),
        (Some(stored), Some(Watermarks { low, .. })) if stored < low => {
            Err((stored, StopReason::BelowLogStart { stored, low }))
        }
        (Some(stored), Some(Watermarks { high, .. })) if stored > high => {
            Err((stored, StopReason::BeyondLogEnd { stored, high }))
        }
        (Some(stored), _) => Ok(stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_begins_at_its_stored_offset_if_the_log_has_it() {
        let log = Some(Watermarks { low: 10, high: 20 });
        for (stored, expected) in [
            (9, Err((9, StopReason::BelowLogStart { stored: 9, low: 10 }))),
            (10, Ok(10)),
            (20, Ok(20)),
            (21, Err((21, StopReason::BeyondLogEnd { stored: 21, high: 20 }))),
        ] {
            assert_eq!(decide_beginning(Some((stored, None)), log), expected);
        }
        assert_eq!(decide_beginning(Some((99, None)), None), Ok(99));
        let halted = Some((15, Some("flood".to_owned())));
        assert_eq!(decide_beginning(halted, log), Err((15, StopReason::Halted("flood".to_owned()))));
        assert_eq!(decide_beginning(None, None), Err((0, StopReason::LogUnknown)));
    }
}
