//! The window of deduplication: its floors, and what retention forgets.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::engine::identity::LANES;

/// The floors of sources; those of which nothing is forgotten are left out.
///
/// Read it behind [`insert_blocks`](super::handled::insert_blocks): a block that retention took before the insert is below
/// the floor that is read here, because retention deletes and raises in one transaction and the insert waits for it.
pub(crate) async fn load_floors(
    tx: &mut PgConnection,
    group: i16,
    sources: &[i16],
) -> Result<HashMap<i16, i64>, sqlx::Error> {
    let rows: Vec<(i16, i64)> = sqlx::query_as(
        "select source_id, floor_block from inbox.dedup_window
          where consumer_group = $1 and source_id = any($2)",
    )
    .bind(group)
    .bind(sources)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().collect())
}

/// The first week that is not forgotten. Read it behind the insert, as [`load_floors`].
pub(crate) async fn load_floor_week(tx: &mut PgConnection, group: i16) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("select floor_week from inbox.consumer_group where id = $1")
        .bind(group)
        .fetch_one(tx)
        .await
}

/// Ends statements of this connection that wait for others' locks for longer.
pub(crate) async fn limit_lock_waits(connection: &mut PgConnection, millis: u64) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('lock_timeout', $1, false)")
        .bind(format!("{millis}ms"))
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether no other session is at it; until the transaction ends.
pub(crate) async fn try_lock_round(tx: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // `inbx` in ASCII.
    sqlx::query_scalar("select pg_try_advisory_xact_lock(x'696e6278'::int, 1)").fetch_one(tx).await
}

/// Notes the highest block of each group and source, if it has grown and there is no note that is younger than `gap`.
pub(crate) async fn insert_samples(tx: &mut PgConnection, gap: PgInterval) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into inbox.dedup_sample (consumer_group, source_id, block)
         select g.id, s.source_id, top.block
           from inbox.consumer_group g
          cross join inbox.source s
          cross join lateral (
                select max(highest.block) as block
                  from generate_series(0, $2 - 1) as lanes (lane)
                 cross join lateral (
                       select e.block from inbox.event_handled e
                        where e.consumer_group = g.id and e.source_id = s.source_id and e.lane = lanes.lane
                        order by e.block desc limit 1) as highest) as top
           left join lateral (
                select max(d.taken_at) as taken_at, max(d.block) as block from inbox.dedup_sample d
                 where d.consumer_group = g.id and d.source_id = s.source_id) as last on true
          where top.block > coalesce(last.block, -1)
            and (last.taken_at is null or last.taken_at <= clock_timestamp() - $1)",
    )
    .bind(gap)
    .bind(i32::try_from(LANES).unwrap_or(i32::MAX))
    .execute(tx)
    .await?;
    Ok(())
}

/// Where the floor of a group and source belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Target {
    pub(crate) consumer_group: i16,
    pub(crate) source_id: i16,
    pub(crate) block: i64,
}

/// Floors that are lower than they may be.
pub(crate) async fn list_targets(
    connection: &mut PgConnection,
    keep: PgInterval,
) -> Result<Vec<Target>, sqlx::Error> {
    sqlx::query_as(
        "select d.consumer_group, d.source_id, max(d.block) as block
           from inbox.dedup_sample d
           left join inbox.dedup_window w using (consumer_group, source_id)
          where d.taken_at < clock_timestamp() - $1
          group by 1, 2, w.floor_block
         having max(d.block) > coalesce(w.floor_block, -1)
          order by 1, 2",
    )
    .bind(keep)
    .fetch_all(connection)
    .await
}

/// Forgets up to `blocks` numbers of blocks below the target; answers the new floor and the events that it forgot.
pub(crate) async fn forget_blocks(
    tx: &mut PgConnection,
    target: Target,
    blocks: i64,
) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as(
        "with lanes as (
             select lane::smallint from generate_series(0, $5 - 1) as lane
         ), lowest as (
             select min(first.block) as block
               from lanes
              cross join lateral (
                    select e.block from inbox.event_handled e
                     where e.consumer_group = $1 and e.source_id = $2 and e.lane = lanes.lane
                     order by e.block limit 1) as first
         ), floor as (
             select least($3, coalesce((select block from lowest), $3) + $4) as block
         ), gone as (
             delete from inbox.event_handled e using lanes, floor
              where e.consumer_group = $1 and e.source_id = $2 and e.lane = lanes.lane and e.block < floor.block
             returning bit_count(e.bits) as events
         )
         insert into inbox.dedup_window as w (consumer_group, source_id, floor_block, forgotten)
         select $1, $2, floor.block, coalesce((select sum(events) from gone), 0) from floor
             on conflict (consumer_group, source_id) do update
            set floor_block = greatest(w.floor_block, excluded.floor_block),
                forgotten = w.forgotten + excluded.forgotten
         returning floor_block, (select coalesce(sum(events), 0)::bigint from gone)",
    )
    .bind(target.consumer_group)
    .bind(target.source_id)
    .bind(target.block)
    .bind(blocks)
    .bind(i32::try_from(LANES).unwrap_or(i32::MAX))
    .fetch_one(tx)
    .await
}

/// Samples that the floor has reached are of no use any more.
pub(crate) async fn delete_samples(tx: &mut PgConnection, target: Target) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from inbox.dedup_sample where consumer_group = $1 and source_id = $2 and block <= $3",
    )
    .bind(target.consumer_group)
    .bind(target.source_id)
    .bind(target.block)
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds the partition of a week of ids, if it can be; answers whether it did.
pub(crate) async fn add_week(connection: &mut PgConnection, week: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select inbox.add_id_week($1)").bind(week).fetch_one(connection).await
}

/// The database's clock.
pub(crate) async fn load_now(connection: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await
}

/// Weeks below `week` that have a partition, oldest first.
pub(crate) async fn list_weeks(connection: &mut PgConnection, week: i32) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "select substr(c.relname, length('event_handled_id_w') + 1)::integer as week
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = 'inbox.event_handled_id'::regclass and c.relname ~ '^event_handled_id_w[0-9]+$'
            and substr(c.relname, length('event_handled_id_w') + 1)::integer < $1
          order by 1",
    )
    .bind(week)
    .fetch_all(connection)
    .await
}

/// Drops the partition of a week unless an id of it was handled after `before`; answers the ids that it forgot.
pub(crate) async fn drop_week(
    tx: &mut PgConnection,
    week: i32,
    before: DateTime<Utc>,
) -> Result<Option<i64>, sqlx::Error> {
    let partition = format!("inbox.event_handled_id_w{week}");
    // Nobody writes to it from here on; other weeks are not held up while it is counted.
    sqlx::query(AssertSqlSafe(format!("lock table {partition} in share row exclusive mode")))
        .execute(&mut *tx)
        .await?;
    let is_in_use: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "select exists (select from {partition} where handled_at >= $1)"
    )))
    .bind(before)
    .fetch_one(&mut *tx)
    .await?;
    if is_in_use {
        return Ok(None);
    }
    let forgotten: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "with gone as (select consumer_group, count(*) as ids from {partition} group by 1),
              raised as (
                  update inbox.consumer_group g
                     set forgotten_ids = g.forgotten_ids + gone.ids,
                         floor_week = greatest(g.floor_week, $1 + 1)
                    from gone where g.id = gone.consumer_group)
         select coalesce(sum(ids), 0)::bigint from gone"
    )))
    .bind(week)
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query(AssertSqlSafe(format!("drop table {partition}"))).execute(tx).await?;
    Ok(Some(forgotten))
}

/// Forgets up to `rows` ids of past weeks that have no partition, handled before `before`, and raises the floors over them;
/// answers how many.
pub(crate) async fn forget_rest_of_weeks(
    tx: &mut PgConnection,
    week: i32,
    before: DateTime<Utc>,
    rows: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "with old as (
             select consumer_group, week, event_id from inbox.event_handled_id_rest
              where week >= 0 and week < $1 and handled_at < $2
              order by week limit $3
         ), gone as (
             delete from inbox.event_handled_id_rest rest using old
              where (rest.consumer_group, rest.week, rest.event_id) = (old.consumer_group, old.week, old.event_id)
             returning rest.consumer_group, rest.week
         ), sums as (
             select consumer_group, count(*) as ids, max(week) as week from gone group by 1
         ), raised as (
             update inbox.consumer_group g
                set forgotten_ids = g.forgotten_ids + sums.ids, floor_week = greatest(g.floor_week, sums.week + 1)
               from sums where g.id = sums.consumer_group
         )
         select coalesce(sum(ids), 0)::bigint from sums",
    )
    .bind(week)
    .bind(before)
    .bind(rows)
    .fetch_one(tx)
    .await
}

/// Forgets up to `rows` ids without a time, handled before `before`. No floor tells of them; answers how many.
pub(crate) async fn forget_timeless(
    tx: &mut PgConnection,
    before: DateTime<Utc>,
    rows: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "with old as (
             select consumer_group, week, event_id from inbox.event_handled_id_rest
              where week = -1 and handled_at < $1
              order by handled_at limit $2
         ), gone as (
             delete from inbox.event_handled_id_rest rest using old
              where (rest.consumer_group, rest.week, rest.event_id) = (old.consumer_group, old.week, old.event_id)
             returning rest.consumer_group
         ), sums as (
             select consumer_group, count(*) as ids from gone group by 1
         ), noted as (
             update inbox.consumer_group g set forgotten_ids = g.forgotten_ids + sums.ids
               from sums where g.id = sums.consumer_group
         )
         select coalesce(sum(ids), 0)::bigint from sums",
    )
    .bind(before)
    .bind(rows)
    .fetch_one(tx)
    .await
}
