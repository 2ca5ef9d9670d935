//! Reads for those who check the promises: positions, totals, and whether they agree.

use sqlx::PgConnection;

use crate::store::totals;

/// How far a group is in one partition, and what became of the offsets that it passed.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PartitionProgress {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Full topic name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Reading goes on here.
    pub next_offset: i64,
    /// Reading began here.
    pub first_offset: i64,
    /// Events that had their effect.
    pub handled: i64,
    /// Events that were handled before.
    pub duplicates: i64,
    /// Records that became dead letters.
    pub dead_lettered: i64,
    /// Offsets that carry nothing for this group.
    pub skipped: i64,
}

impl PartitionProgress {
    /// Offsets passed, minus those that are accounted for: 0 at any instant.
    #[must_use]
    pub fn difference(&self) -> i64 {
        (self.next_offset - self.first_offset)
            - (self.handled + self.duplicates + self.dead_lettered + self.skipped)
    }
}

/// What a group counts as handled, beside what it remembers as handled.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct GroupBalance {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Sum over its partitions.
    pub handled: i64,
    /// Events of letters that waited in the order of their keys, and had their effect in their turn.
    pub released: i64,
    /// Events of such letters that were discarded, remembered so that they never have their effect out of their turn.
    pub given_up: i64,
    /// Events remembered as bits.
    pub bits: i64,
    /// Events remembered by id.
    pub ids: i64,
    /// Events that were remembered until retention forgot them.
    pub forgotten: i64,
}

impl GroupBalance {
    /// Handled and settled by letters, minus remembered and forgotten: 0 at any instant.
    #[must_use]
    pub fn difference(&self) -> i64 {
        self.handled + self.released + self.given_up - self.bits - self.ids - self.forgotten
    }
}

/// Dead letters of one kind.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct DeadLetterCount {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Full topic name.
    pub topic: String,
    /// Stable slug.
    pub reason: String,
    /// `new`, `published`, `redriven` or `discarded`.
    pub status: String,
    /// How many.
    pub letters: i64,
}

/// The sums that must agree in every snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Every partition of every group.
    pub partitions: Vec<PartitionProgress>,
    /// Every group.
    pub groups: Vec<GroupBalance>,
}

impl Balance {
    /// Whether nothing is missing and nothing is double.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.partitions.iter().all(|partition| partition.difference() == 0)
            && self.groups.iter().all(|group| group.difference() == 0)
    }
}

/// Every partition of a group (of all groups for `None`), by topic and partition.
///
/// # Errors
/// The database's failure.
pub async fn list(
    connection: &mut PgConnection,
    group: Option<&str>,
) -> Result<Vec<PartitionProgress>, sqlx::Error> {
    totals::list_progress(connection, group).await
}

/// What a group (every group for `None`) counts and remembers as handled. Reads every block of the group.
///
/// # Errors
/// The database's failure.
pub async fn handled_totals(
    connection: &mut PgConnection,
    group: Option<&str>,
) -> Result<Vec<GroupBalance>, sqlx::Error> {
    totals::list_balances(connection, group).await
}

/// Dead letters of a group (of all groups for `None`) by topic, reason and status.
///
/// # Errors
/// The database's failure.
pub async fn dead_letter_counts(
    connection: &mut PgConnection,
    group: Option<&str>,
) -> Result<Vec<DeadLetterCount>, sqlx::Error> {
    totals::count_dead_letters(connection, group).await
}

/// The sums of promise P8. The caller gives a transaction of isolation level `repeatable read`: both reads must see the
/// same snapshot.
///
/// # Errors
/// The database's failure.
pub async fn check_balance(snapshot: &mut PgConnection) -> Result<Balance, sqlx::Error> {
    let partitions = totals::list_progress(snapshot, None).await?;
    let groups = totals::list_balances(snapshot, None).await?;
    Ok(Balance { partitions, groups })
}
