//! What the tables of the outbox say about its shards, its segments and its ticks: for operators.
//!
//! Cheap whatever waits: rows are counted up to a limit, and reckoned beyond it. Deliberately absent: what a running
//! relay knows (its metrics tell), and what is parked for which reason (`parked`).

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use crate::retention::{Phase, place};
use crate::store::has_code;
use crate::store::overview::{StoredShard, begin_bounded, load_shards, load_source};
use crate::store::segment::{load_need, load_segments};

/// Rows of a shard up to which [`load`] counts.
pub const COUNTED_ROWS_MAX: u32 = 100_000;
/// Rows of a shard from which the length of its backlog is reckoned where counting would cost too much.
pub(crate) const SAMPLED_ROWS_MAX: u32 = 1_000;
/// SQLSTATE of a statement that took too long.
const QUERY_CANCELED: &str = "57014";

/// A number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows {
    /// How many.
    pub count: u64,
    /// Whether they were reckoned from a sample and not counted.
    pub is_estimate: bool,
}

/// What is committed and not published, by the stored positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behind {
    /// Events.
    pub rows: Rows,
    /// Since the oldest of them was committed, short of a tick's interval; `None` when there is none.
    pub oldest_age: Option<Duration>,
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The database's time.
    pub at: DateTime<Utc>,
    /// The database's name.
    pub database: String,
    /// The server's `system_identifier`.
    pub server: u64,
    /// Whether the server is a replica, which may lag behind its primary.
    pub is_replica: bool,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOverview {
    /// Number.
    pub shard: i16,
    /// The relay that owned it last.
    pub owner: Option<String>,
    /// Raised with every change of owner.
    pub epoch: i64,
    /// How long its owner still has it; `None` when the lease has run out, or nobody ever had it.
    pub lease_remaining: Option<Duration>,
    /// What waits in it.
    pub behind: Behind,
    /// Events that are set aside; where there are more than are counted, so many at least.
    pub parked: Rows,
}

/// One segment of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentOverview {
    /// Number: the hour of the epoch, modulo 4.
    pub segment: i16,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it was not emptied between the last two hours for which it was filled.
    pub came_round: bool,
    /// Whether it holds a row that is not published.
    pub is_unpublished: bool,
    /// Bytes of rows, index and large values.
    pub bytes: u64,
    /// Rows by the server's statistics; `None` before there are any.
    pub rows_estimate: Option<u64>,
    /// Since it was last known to be empty.
    pub emptied_ago: Duration,
}

/// The ticks that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicksOverview {
    /// How many: at most one for each second of the longest backlog.
    pub count: u64,
    /// Since the last one; `None` when there is none.
    pub last_age: Option<Duration>,
}

/// The whole outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Who says so.
    pub source: Source,
    /// Every shard, by number.
    pub shards: Vec<ShardOverview>,
    /// Every segment, by number.
    pub segments: Vec<SegmentOverview>,
    /// Its ticks.
    pub ticks: TicksOverview,
    /// Whether counting took too long, so that rows were reckoned from smaller samples.
    pub is_cut_short: bool,
}

impl Overview {
    /// What waits in all shards.
    #[must_use]
    pub fn total(&self) -> Behind {
        total(self.shards.iter().map(|shard| shard.behind))
    }

    /// What is set aside in all shards.
    #[must_use]
    pub fn parked(&self) -> Rows {
        self.shards.iter().fold(Rows::default(), |sum, shard| sum.plus(shard.parked))
    }
}

/// Reads everything in one snapshot. No statement takes longer than `statement_timeout`: when counting would, rows are
/// reckoned instead, and [`Overview::is_cut_short`] says so.
///
/// # Errors
/// The database's failure, or a statement that took too long all the same.
pub async fn load(
    connection: &mut PgConnection,
    statement_timeout: Duration,
) -> Result<Overview, sqlx::Error> {
    match read(connection, statement_timeout, COUNTED_ROWS_MAX).await {
        Err(error) if has_code(&error, QUERY_CANCELED) => {
            let sampled = read(connection, statement_timeout, SAMPLED_ROWS_MAX).await?;
            Ok(Overview { is_cut_short: true, ..sampled })
        }
        overview => overview,
    }
}

async fn read(
    connection: &mut PgConnection,
    statement_timeout: Duration,
    rows_max: u32,
) -> Result<Overview, sqlx::Error> {
    let mut tx = connection.begin().await?;
    begin_bounded(&mut tx, statement_timeout).await?;
    let source = load_source(&mut tx).await?;
    let shards = load_shards(&mut tx, rows_max).await?;
    let mut segments = Vec::new();
    for stored in load_segments(&mut tx).await? {
        // What is kept does not matter here: only whether the segment is being filled.
        let place = place(stored.segment, stored.now, stored.emptied_at, Duration::ZERO);
        segments.push(SegmentOverview {
            segment: stored.segment,
            phase: place.phase,
            came_round: place.came_round && stored.heap_bytes > 0,
            is_unpublished: load_need(&mut tx, stored.segment).await?.is_unpublished,
            bytes: unsigned(stored.bytes),
            rows_estimate: stored.rows_estimate.map(unsigned),
            emptied_ago: Duration::from_secs(unsigned(stored.now - stored.emptied_at)),
        });
    }
    tx.rollback().await?;
    Ok(Overview {
        source: Source {
            at: source.at,
            database: source.database,
            server: source.system_identifier.cast_unsigned(),
            is_replica: source.is_replica,
        },
        shards: shards.into_iter().map(|stored| overview_of(stored, rows_max)).collect(),
        segments,
        ticks: TicksOverview {
            count: unsigned(source.ticks),
            last_age: source.tick_age_seconds.map(seconds),
        },
        is_cut_short: false,
    })
}

fn overview_of(stored: StoredShard, rows_max: u32) -> ShardOverview {
    ShardOverview {
        shard: stored.shard,
        epoch: stored.epoch,
        lease_remaining: stored.lease_seconds.filter(|left| *left > 0.0).map(seconds),
        behind: behind(&stored, rows_max),
        parked: parked(&stored, rows_max),
        owner: stored.owner,
    }
}

/// What waits in a shard of which at most `rows_max` rows of either kind were counted.
pub(crate) fn behind(stored: &StoredShard, rows_max: u32) -> Behind {
    let ran = unsigned(stored.ran);
    let later = unsigned(stored.began_later);
    let is_estimate = later >= u64::from(rows_max) || ran >= u64::from(rows_max);
    let later = match (stored.first_id, stored.middle_id) {
        (Some(first), Some(middle)) if later >= u64::from(rows_max) => {
            reckon(later, first, middle, stored.last_id)
        }
        _ => later,
    };
    let rows = Rows { count: later.saturating_add(ran), is_estimate };
    // Without a tick behind the position, the last one is younger than any row that waits.
    let age = stored.age_seconds.map_or(Duration::ZERO, seconds);
    Behind { rows, oldest_age: (rows.count > 0).then_some(age) }
}

/// What is set aside in a shard of which at most `rows_max` such rows were counted.
fn parked(stored: &StoredShard, rows_max: u32) -> Rows {
    let count = unsigned(stored.parked);
    Rows { count, is_estimate: count >= u64::from(rows_max) }
}

/// Half of the sampled rows have ids from `first` to `middle`: so many has the shard up to `last`, at the same density.
/// By the middle one and not the highest, because a transaction that was open for long has an early place and late ids.
fn reckon(sampled: u64, first: i64, middle: i64, last: i64) -> u64 {
    let span = |end: i64| i128::from(end) - i128::from(first) + 1;
    let reckoned = i128::from(sampled.div_ceil(2)).saturating_mul(span(last)) / span(middle).max(1);
    u64::try_from(reckoned).unwrap_or(u64::MAX).max(sampled)
}

/// The sum of what waits, as old as the oldest.
pub(crate) fn total(shards: impl Iterator<Item = Behind>) -> Behind {
    shards.fold(Behind::default(), |sum, shard| Behind {
        rows: sum.rows.plus(shard.rows),
        oldest_age: sum.oldest_age.max(shard.oldest_age),
    })
}

/// Counts and sizes are never negative, and a clock that was set back makes no age.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

impl Rows {
    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            is_estimate: self.is_estimate || other.is_estimate,
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.is_estimate { "about " } else { "" };
        write!(formatter, "{about}{}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(began_later: i64, ran: i64, ids: Option<(i64, i64)>) -> StoredShard {
        StoredShard {
            shard: 0,
            owner: None,
            epoch: 0,
            lease_seconds: None,
            began_later,
            first_id: ids.map(|(first, _)| first),
            middle_id: ids.map(|(_, middle)| middle),
            ran,
            parked: 0,
            last_id: 1_000_000,
            age_seconds: Some(7.5),
        }
    }

    #[test]
    fn rows_below_the_limit_are_counted() {
        let seen = behind(&stored(99, 5, Some((1, 50))), 100).rows;
        assert_eq!(seen, Rows { count: 104, is_estimate: false });
    }

    #[test]
    fn rows_at_the_limit_are_reckoned_from_the_density_of_ids() {
        // Every 16th id from 1 on is in the sample, and a million ids were handed out.
        let seen = behind(&stored(100, 0, Some((1, 800))), 100).rows;
        assert_eq!(seen, Rows { count: 62_500, is_estimate: true });
    }

    #[test]
    fn a_reckoning_is_never_below_what_was_counted() {
        assert_eq!(reckon(100, 10, 999, 12), 100);
        assert_eq!(reckon(u64::MAX, i64::MIN, i64::MIN, i64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_parked_is_counted_up_to_the_limit() {
        let of = |rows| parked(&StoredShard { parked: rows, ..stored(0, 0, None) }, 100);
        assert_eq!([of(0), of(99)].map(|rows| rows.to_string()), ["0", "99"]);
        assert_eq!(of(100).plus(of(1)).to_string(), "about 101");
    }

    #[test]
    fn an_empty_shard_has_no_age_and_a_young_one_is_not_negative() {
        assert_eq!(behind(&stored(0, 0, None), 100).oldest_age, None);
        let young = StoredShard { age_seconds: None, ..stored(1, 0, Some((1, 1))) };
        assert_eq!(behind(&young, 100).oldest_age, Some(Duration::ZERO));
    }

    #[test]
    fn the_total_is_as_old_as_the_oldest_and_an_estimate_when_a_part_is() {
        let counted = behind(&stored(3, 0, Some((1, 2))), 100);
        let reckoned =
            behind(&StoredShard { age_seconds: Some(60.0), ..stored(100, 0, Some((1, 800))) }, 100);
        let sum = total([counted, reckoned].into_iter());
        assert_eq!(sum.rows, Rows { count: 62_503, is_estimate: true });
        assert_eq!(sum.oldest_age, Some(Duration::from_secs(60)));
        assert_eq!(sum.rows.to_string(), "about 62503");
    }
}
