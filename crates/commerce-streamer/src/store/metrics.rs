//! `metrics.product_metrics`, its hourly table, and the tallies of promise P8.

use std::ops::AddAssign;

use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;

/// What is added to one product's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) likes: i64,
    pub(crate) sales: i64,
    /// Minor units.
    pub(crate) amount: i64,
    pub(crate) views: i64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.likes += other.likes;
        self.sales += other.sales;
        self.amount += other.amount;
        self.views += other.views;
    }
}

/// Counts of one product in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) product_id: i64,
    /// Start of the hour, seconds since the epoch.
    pub(crate) hour: i64,
    pub(crate) counts: Counts,
}

/// Events of one kind in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) kind: &'static str,
    pub(crate) events: i64,
    pub(crate) units: i64,
}

/// The columns of `rows` as arrays for `unnest`.
struct Columns {
    product_ids: Vec<i64>,
    likes: Vec<i64>,
    sales: Vec<i64>,
    amounts: Vec<i64>,
    views: Vec<i64>,
}

impl From<&[Row]> for Columns {
    fn from(rows: &[Row]) -> Self {
        Self {
            product_ids: rows.iter().map(|row| row.product_id).collect(),
            likes: rows.iter().map(|row| row.counts.likes).collect(),
            sales: rows.iter().map(|row| row.counts.sales).collect(),
            amounts: rows.iter().map(|row| row.counts.amount).collect(),
            views: rows.iter().map(|row| row.counts.views).collect(),
        }
    }
}

/// Adds a batch in one round trip, as a small one costs little else: `totals` to the all-time counters, `hourly` to those of the
/// hours, `tally` to the partition's. Rows are one a product, or one a product and hour, with the same sums, and sorted, so that concurrent batches cannot
/// deadlock.
pub(crate) async fn add_counts(
    tx: &mut PgConnection,
    totals: &[Row],
    hourly: &[Row],
    tally: &Tally<'_>,
) -> Result<(), sqlx::Error> {
    // Almost every batch is of one hour, and then they are the same rows.
    let apart = (totals.len() != hourly.len()).then(|| Columns::from(hourly));
    let hours: Vec<i64> = hourly.iter().map(|row| row.hour).collect();
    let totals = Columns::from(totals);
    let statement = "select metrics.add_batch($6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16),
                            metrics.add_applied($1, $2, $3, $4, $5)";
    tally
        .bind(sqlx::query(statement))
        .bind(totals.product_ids)
        .bind(totals.likes)
        .bind(totals.sales)
        .bind(totals.amounts)
        .bind(totals.views)
        .bind(apart.as_ref().map(|columns| &columns.product_ids[..]))
        .bind(hours)
        .bind(apart.as_ref().map(|columns| &columns.likes[..]))
        .bind(apart.as_ref().map(|columns| &columns.sales[..]))
        .bind(apart.as_ref().map(|columns| &columns.amounts[..]))
        .bind(apart.as_ref().map(|columns| &columns.views[..]))
        .execute(tx)
        .await?;
    Ok(())
}

/// Folds up to `additions_max` batches' additions to the hours, the oldest first, in one transaction; answers how many.
pub(crate) async fn fold_hours(
    connection: &mut PgConnection,
    additions_max: u32,
) -> Result<u64, sqlx::Error> {
    let folded: i64 = sqlx::query_scalar("select metrics.fold_hours($1)")
        .bind(i32::try_from(additions_max).unwrap_or(i32::MAX))
        .fetch_one(connection)
        .await?;
    Ok(folded.cast_unsigned())
}

/// How many additions are not folded yet, and for how many seconds the oldest of them.
pub(crate) async fn measure_additions(connection: &mut PgConnection) -> Result<(i64, f64), sqlx::Error> {
    sqlx::query_as(
        "select count(*), greatest(0, coalesce(extract(epoch from clock_timestamp() - min(added_at)), 0))::float8
           from metrics.hourly_addition",
    )
    .fetch_one(connection)
    .await
}

/// Adds to the tallies of a partition alone.
pub(crate) async fn add_applied(tx: &mut PgConnection, tally: &Tally<'_>) -> Result<(), sqlx::Error> {
    tally.bind(sqlx::query("select metrics.add_applied($1, $2, $3, $4, $5)")).execute(tx).await?;
    Ok(())
}

/// What was applied of a batch.
pub(crate) struct Tally<'a> {
    /// Without prefix.
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    /// One a kind.
    pub(crate) applied: &'a [Applied],
}

impl Tally<'_> {
    fn bind<'q>(&self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let kinds: Vec<&'static str> = self.applied.iter().map(|applied| applied.kind).collect();
        let events: Vec<i64> = self.applied.iter().map(|applied| applied.events).collect();
        let units: Vec<i64> = self.applied.iter().map(|applied| applied.units).collect();
        query.bind(self.topic.to_owned()).bind(self.partition).bind(kinds).bind(events).bind(units)
    }
}
