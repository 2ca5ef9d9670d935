//! What the verifier asks PostgreSQL. It reads the tables by their documented names, not through the crates that write
//! them: what is checked must not also be the judge.

use futures_util::Stream;
use sqlx::PgConnection;

/// Rows of the outbox are counted up to here.
pub(super) const UNPUBLISHED_COUNTED_MAX: i64 = 100_000;

/// Events that are committed and not yet published; at most [`UNPUBLISHED_COUNTED_MAX`].
pub(super) async fn count_unpublished(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from (select from outbox.unpublished limit $1) waiting")
        .bind(UNPUBLISHED_COUNTED_MAX)
        .fetch_one(connection)
        .await
}

/// How far a consumer group is in one partition, and what became of the records.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Progress {
    pub(super) group_name: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) next_offset: i64,
    pub(super) first_offset: i64,
    pub(super) handled: i64,
    pub(super) duplicates: i64,
    pub(super) dead_lettered: i64,
    pub(super) skipped: i64,
}

/// Every group's progress.
pub(super) async fn list_progress(connection: &mut PgConnection) -> Result<Vec<Progress>, sqlx::Error> {
    sqlx::query_as(
        "select g.name as group_name, p.topic, p.partition, p.next_offset, p.first_offset, p.handled, p.duplicates,
                p.dead_lettered, p.skipped
           from inbox.progress p join inbox.consumer_group g on g.id = p.consumer_group
          order by g.name, p.topic, p.partition",
    )
    .fetch_all(connection)
    .await
}

/// Dead letters that are not yet on their topic.
pub(super) async fn count_new_dead_letters(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from inbox.dead_letter where status = 'new'")
        .fetch_one(connection)
        .await
}

/// Cache invalidations that are owed.
pub(super) async fn count_owed_intents(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from metrics.cache_intent").fetch_one(connection).await
}

/// Events that a group remembers as handled: bits set, and ids.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Marks {
    pub(super) group_name: String,
    pub(super) bits: i64,
    pub(super) ids: i64,
    /// Events that were remembered until retention forgot them.
    pub(super) forgotten: i64,
    /// Events that letters brought in, or gave up, in the order of their keys: remembered, and passed by no offset.
    pub(super) settled: i64,
}

/// The marks of every group.
pub(super) async fn list_marks(connection: &mut PgConnection) -> Result<Vec<Marks>, sqlx::Error> {
    sqlx::query_as(
        "select g.name as group_name,
                (select coalesce(sum(bit_count(bits)), 0)::bigint
                   from inbox.event_handled h where h.consumer_group = g.id) as bits,
                (select count(*) from inbox.event_handled_id h where h.consumer_group = g.id) as ids,
                g.forgotten_ids + (select coalesce(sum(forgotten), 0)::bigint
                   from inbox.dedup_window w where w.consumer_group = g.id) as forgotten,
                g.released + g.given_up as settled
           from inbox.consumer_group g order by g.name",
    )
    .fetch_all(connection)
    .await
}

/// Dead letters of one origin and reason.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct DeadLetters {
    pub(super) group_name: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) reason: String,
    pub(super) records: i64,
}

/// Dead letters by group, partition and reason.
pub(super) async fn list_dead_letters(
    connection: &mut PgConnection,
) -> Result<Vec<DeadLetters>, sqlx::Error> {
    sqlx::query_as(
        "select consumer_group as group_name, topic, partition, reason, count(*) as records
           from inbox.dead_letter group by 1, 2, 3, 4 order by 1, 2, 3, 4",
    )
    .fetch_all(connection)
    .await
}

/// Partitions and offsets of the records of a topic, under any of `names`, that are dead letters.
pub(super) async fn list_dead_offsets(
    connection: &mut PgConnection,
    names: &[String],
) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    sqlx::query_as("select distinct partition, \"offset\" from inbox.dead_letter where topic = any($1)")
        .bind(names)
        .fetch_all(connection)
        .await
}

/// Events applied, by kind, in one partition.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Applied {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) kind: String,
    pub(super) events: i64,
    pub(super) units: i64,
}

/// The tallies of every partition.
pub(super) async fn list_applied(connection: &mut PgConnection) -> Result<Vec<Applied>, sqlx::Error> {
    sqlx::query_as("select topic, partition, kind, events, units from metrics.applied order by 1, 2, 3")
        .fetch_all(connection)
        .await
}

/// Sums over all products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Sums {
    pub(super) likes: i64,
    pub(super) sales: i64,
    pub(super) amount: i64,
    pub(super) views: i64,
}

/// What `product_metrics` sums up to.
pub(super) async fn load_sums(connection: &mut PgConnection) -> Result<Sums, sqlx::Error> {
    sqlx::query_as(
        "select coalesce(sum(like_count), 0)::bigint as likes, coalesce(sum(sales_count), 0)::bigint as sales,
                coalesce(sum(sales_amount), 0)::bigint as amount, coalesce(sum(view_count), 0)::bigint as views
           from metrics.product_metrics",
    )
    .fetch_one(connection)
    .await
}

/// What happened by the hour, folded or not, sums up to.
pub(super) async fn load_hourly_sums(connection: &mut PgConnection) -> Result<Sums, sqlx::Error> {
    sqlx::query_as(
        "select coalesce(sum(like_count), 0)::bigint as likes, coalesce(sum(sales_count), 0)::bigint as sales,
                coalesce(sum(sales_amount), 0)::bigint as amount, coalesce(sum(view_count), 0)::bigint as views
           from metrics.product_hour",
    )
    .fetch_one(connection)
    .await
}

/// What buyers see of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Shown {
    pub(super) product_id: i64,
    pub(super) likes: i64,
    pub(super) sales: i64,
    pub(super) amount: i64,
    pub(super) views: i64,
    /// `None` before the first event of its stock.
    pub(super) sold_out: Option<bool>,
    pub(super) stock_version: Option<i64>,
}

/// Every product with a count or a state, in the order of its id; streamed.
pub(super) fn stream_shown(
    connection: &mut PgConnection,
) -> impl Stream<Item = Result<Shown, sqlx::Error>> + Send + '_ {
    sqlx::query_as(
        "select product_id, coalesce(m.like_count, 0) as likes, coalesce(m.sales_count, 0) as sales,
                coalesce(m.sales_amount, 0) as amount, coalesce(m.view_count, 0) as views,
                s.sold_out, s.version as stock_version
           from metrics.product_metrics m full join metrics.product_stock s using (product_id)
          order by product_id",
    )
    .fetch(connection)
}

/// Makes every read until the end of the transaction see one moment.
pub(super) async fn begin_snapshot(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("begin isolation level repeatable read, read only").execute(connection).await?;
    Ok(())
}

/// Ends it.
pub(super) async fn end_snapshot(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("commit").execute(connection).await?;
    Ok(())
}
