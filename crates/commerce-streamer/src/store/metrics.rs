//! `metrics.product_metrics`, its hourly table, and the tallies of promise P8.

use std::ops::AddAssign;

use sqlx::PgConnection;

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
    hours: Vec<i64>,
    likes: Vec<i64>,
    sales: Vec<i64>,
    amounts: Vec<i64>,
    views: Vec<i64>,
}

impl From<&[Row]> for Columns {
    fn from(rows: &[Row]) -> Self {
        Self {
            product_ids: rows.iter().map(|row| row.product_id).collect(),
            hours: rows.iter().map(|row| row.hour).collect(),
            likes: rows.iter().map(|row| row.counts.likes).collect(),
            sales: rows.iter().map(|row| row.counts.sales).collect(),
            amounts: rows.iter().map(|row| row.counts.amount).collect(),
            views: rows.iter().map(|row| row.counts.views).collect(),
        }
    }
}

/// Adds to the all-time counters. `rows`: one a product, sorted, so that concurrent batches cannot deadlock.
pub(crate) async fn add_counts(tx: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    let columns = Columns::from(rows);
    sqlx::query(
        "insert into metrics.product_metrics as m (product_id, like_count, sales_count, sales_amount, view_count)
         select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
         on conflict (product_id) do update
            set like_count   = m.like_count   + excluded.like_count,
                sales_count  = m.sales_count  + excluded.sales_count,
                sales_amount = m.sales_amount + excluded.sales_amount,
                view_count   = m.view_count   + excluded.view_count,
                updated_at   = clock_timestamp()",
    )
    .bind(columns.product_ids)
    .bind(columns.likes)
    .bind(columns.sales)
    .bind(columns.amounts)
    .bind(columns.views)
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds to the hourly counters. `rows`: one a product and hour, sorted.
pub(crate) async fn add_hourly_counts(tx: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    let columns = Columns::from(rows);
    sqlx::query(
        "insert into metrics.product_metrics_hourly as m
                (product_id, hour, like_count, sales_count, sales_amount, view_count)
         select product_id, to_timestamp(hour), likes, sales, amount, views
           from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
             as r (product_id, hour, likes, sales, amount, views)
         on conflict (product_id, hour) do update
            set like_count   = m.like_count   + excluded.like_count,
                sales_count  = m.sales_count  + excluded.sales_count,
                sales_amount = m.sales_amount + excluded.sales_amount,
                view_count   = m.view_count   + excluded.view_count",
    )
    .bind(columns.product_ids)
    .bind(columns.hours)
    .bind(columns.likes)
    .bind(columns.sales)
    .bind(columns.amounts)
    .bind(columns.views)
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds to the tallies of a partition. `tallies`: one a kind.
pub(crate) async fn add_applied(
    tx: &mut PgConnection,
    topic: &str,
    partition: i32,
    tallies: &[Applied],
) -> Result<(), sqlx::Error> {
    let kinds: Vec<&str> = tallies.iter().map(|tally| tally.kind).collect();
    let events: Vec<i64> = tallies.iter().map(|tally| tally.events).collect();
    let units: Vec<i64> = tallies.iter().map(|tally| tally.units).collect();
    sqlx::query(
        "insert into metrics.applied as a (topic, partition, kind, events, units)
         select $1, $2, * from unnest($3::text[], $4::bigint[], $5::bigint[])
         on conflict (topic, partition, kind) do update
            set events = a.events + excluded.events, units = a.units + excluded.units",
    )
    .bind(topic)
    .bind(partition)
    .bind(kinds)
    .bind(events)
    .bind(units)
    .execute(tx)
    .await?;
    Ok(())
}

/// Events and units applied so far of one kind, over all partitions.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AppliedTotals {
    /// The event type.
    pub kind: String,
    /// How many events.
    pub events: i64,
    /// Their units: quantities for orders, 1 an event else.
    pub units: i64,
}

/// Tallies by kind, for promise P8; read in the caller's snapshot.
///
/// # Errors
/// The database's.
pub async fn applied_totals(connection: &mut PgConnection) -> Result<Vec<AppliedTotals>, sqlx::Error> {
    sqlx::query_as(
        "select kind, sum(events)::bigint as events, sum(units)::bigint as units
           from metrics.applied group by kind order by kind",
    )
    .fetch_all(connection)
    .await
}

/// Sums of `product_metrics`: likes, units sold, views. For promise P8; read in the caller's snapshot.
///
/// # Errors
/// The database's.
pub async fn count_totals(connection: &mut PgConnection) -> Result<(i64, i64, i64), sqlx::Error> {
    sqlx::query_as(
        "select coalesce(sum(like_count), 0)::bigint, coalesce(sum(sales_count), 0)::bigint,
                coalesce(sum(view_count), 0)::bigint
           from metrics.product_metrics",
    )
    .fetch_one(connection)
    .await
}
