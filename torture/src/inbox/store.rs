//! All SQL of the inbox's torture: the projection's tables, what the ledger reads, and faults of the server.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::event::{Event, Kind};

const SCHEMA: &str = "
    create schema torture;
    -- One row for each effect: an event that counts twice has two.
    create table torture.effect (
        id uuid not null,
        place bigint generated always as identity,
        is_forbidden boolean not null constraint effect_allowed check (not is_forbidden));
    -- Counters that all partitions write to.
    create table torture.total (product bigint primary key, events bigint not null, amount bigint not null);
    -- The newest state of each key.
    create table torture.state (key bigint primary key, version bigint not null);
    -- Stands for a cache: written after the commit, in no transaction with it.
    create table torture.cache (key bigint primary key, version bigint not null);
    -- Invalidations that are owed to the cache.
    create table torture.intent (
        key bigint primary key,
        version bigint not null,
        at timestamptz not null default clock_timestamp());
";

pub(super) async fn create_schema(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SCHEMA).execute(connection).await?;
    Ok(())
}

/// A role that, unlike a superuser, the server's limits hold for; its name is the database's.
pub(super) async fn create_role(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let name: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&mut *connection).await?;
    let create = format!(
        "create role {name} login;
         grant pg_read_all_data, pg_write_all_data to {name};"
    );
    sqlx::raw_sql(AssertSqlSafe(create)).execute(connection).await?;
    Ok(name)
}

pub(super) async fn drop_role(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("drop role if exists {name}"))).execute(connection).await?;
    Ok(())
}

/// Writes the effects down; a forbidden one fails the statement.
pub(super) async fn insert_effects(tx: &mut PgConnection, events: &[Event]) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let forbidden: Vec<bool> = events.iter().map(|event| event.kind == Kind::Forbidden).collect();
    sqlx::query(
        "insert into torture.effect (id, is_forbidden) select * from unnest($1::uuid[], $2::boolean[])",
    )
    .bind(ids)
    .bind(forbidden)
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds to the counters, in the order given.
pub(super) async fn add_totals(tx: &mut PgConnection, totals: &[(i64, i64, i64)]) -> Result<(), sqlx::Error> {
    let column = |of: fn(&(i64, i64, i64)) -> i64| totals.iter().map(of).collect::<Vec<i64>>();
    sqlx::query(
        "insert into torture.total as t (product, events, amount)
         select * from unnest($1::bigint[], $2::bigint[], $3::bigint[])
         on conflict (product) do update set events = t.events + excluded.events, amount = t.amount + excluded.amount",
    )
    .bind(column(|total| total.0))
    .bind(column(|total| total.1))
    .bind(column(|total| total.2))
    .execute(tx)
    .await?;
    Ok(())
}

/// Keys and versions, one array each.
fn columns(states: &[(i64, i64)]) -> (Vec<i64>, Vec<i64>) {
    states.iter().copied().unzip()
}

/// Replaces states by newer ones, or by any with `by_any`; answers those that were replaced.
pub(super) async fn replace_states(
    tx: &mut PgConnection,
    states: &[(i64, i64)],
    by_any: bool,
) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    let (keys, versions) = columns(states);
    sqlx::query_as(
        "insert into torture.state as s (key, version) select * from unnest($1::bigint[], $2::bigint[]) order by 1
         on conflict (key) do update set version = excluded.version where s.version < excluded.version or $3
         returning key, version",
    )
    .bind(keys)
    .bind(versions)
    .bind(by_any)
    .fetch_all(tx)
    .await
}

pub(super) async fn insert_intents(tx: &mut PgConnection, states: &[(i64, i64)]) -> Result<(), sqlx::Error> {
    let (keys, versions) = columns(states);
    sqlx::query(
        "insert into torture.intent as i (key, version) select * from unnest($1::bigint[], $2::bigint[]) order by 1
         on conflict (key) do update set version = excluded.version, at = clock_timestamp()",
    )
    .bind(keys)
    .bind(versions)
    .execute(tx)
    .await?;
    Ok(())
}

/// Raises the cache to these versions; never lowers it.
pub(super) async fn raise_cache(
    connection: &mut PgConnection,
    states: &[(i64, i64)],
) -> Result<(), sqlx::Error> {
    let (keys, versions) = columns(states);
    sqlx::query(
        "insert into torture.cache as c (key, version) select * from unnest($1::bigint[], $2::bigint[]) order by 1
         on conflict (key) do update set version = excluded.version where c.version < excluded.version",
    )
    .bind(keys)
    .bind(versions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes off what is not owed any more.
pub(super) async fn clear_intents(
    connection: &mut PgConnection,
    states: &[(i64, i64)],
) -> Result<(), sqlx::Error> {
    let (keys, versions) = columns(states);
    sqlx::query(
        "with done as (
             select i.key from torture.intent i
               join unnest($1::bigint[], $2::bigint[]) as told (key, version) on told.key = i.key
              where i.version <= told.version
              order by i.key for update of i skip locked)
         delete from torture.intent where key in (select key from done)",
    )
    .bind(keys)
    .bind(versions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Invalidations that somebody owes for a second or longer.
pub(super) async fn list_owed(connection: &mut PgConnection) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select key, version from torture.intent where at < clock_timestamp() - interval '1 second' order by key",
    )
    .fetch_all(connection)
    .await
}

/// Invalidations that anybody owes.
pub(super) async fn count_intents(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from torture.intent").fetch_one(connection).await
}

/// The projection's rule is dropped: forbidden events are allowed now.
pub(super) async fn allow_forbidden(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("alter table torture.effect drop constraint effect_allowed").execute(connection).await?;
    Ok(())
}

/// Effects, and the sum of what the counters count.
pub(super) async fn count_effects(tx: &mut PgConnection) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as(
        "select (select count(*) from torture.effect),
                (select coalesce(sum(events), 0)::bigint from torture.total)",
    )
    .fetch_one(tx)
    .await
}

/// Every effect, in the order in which they happened.
pub(super) async fn list_effects(connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from torture.effect order by place").fetch_all(connection).await
}

/// Events of letters that an operator has given up.
pub(super) async fn list_given_up(connection: &mut PgConnection) -> Result<Vec<Option<String>>, sqlx::Error> {
    sqlx::query_scalar("select event_id from inbox.dead_letter where status = 'discarded'")
        .fetch_all(connection)
        .await
}

/// Keys that wait, and letters that do.
pub(super) async fn count_waiting(connection: &mut PgConnection) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as(
        "select (select count(*) from inbox.blocked_key),
                (select count(*) from inbox.dead_letter where status in ('new', 'published', 'blocked'))",
    )
    .fetch_one(connection)
    .await
}

/// The letters' ids and their events.
pub(super) async fn list_letters(
    connection: &mut PgConnection,
) -> Result<Vec<(Uuid, Option<String>)>, sqlx::Error> {
    sqlx::query_as("select id, event_id from inbox.dead_letter order by id").fetch_all(connection).await
}

/// Letters that are not yet said to be on their topic.
pub(super) async fn count_unpublished(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from inbox.dead_letter where status = 'new'")
        .fetch_one(connection)
        .await
}

pub(super) async fn list_totals(
    connection: &mut PgConnection,
) -> Result<BTreeMap<i64, (i64, i64)>, sqlx::Error> {
    let rows: Vec<(i64, i64, i64)> =
        sqlx::query_as("select product, events, amount from torture.total").fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(product, events, amount)| (product, (events, amount))).collect())
}

pub(super) async fn list_states(connection: &mut PgConnection) -> Result<BTreeMap<i64, i64>, sqlx::Error> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("select key, version from torture.state").fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

pub(super) async fn list_cache(connection: &mut PgConnection) -> Result<BTreeMap<i64, i64>, sqlx::Error> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("select key, version from torture.cache").fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Where the group is in each partition of a topic.
pub(super) async fn list_offsets(
    connection: &mut PgConnection,
    topic: &str,
) -> Result<BTreeMap<i32, i64>, sqlx::Error> {
    let rows: Vec<(i32, i64)> =
        sqlx::query_as("select partition, next_offset from inbox.progress where topic = $1")
            .bind(topic)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

/// Who moved an offset last.
pub(super) async fn list_owners(connection: &mut PgConnection) -> Result<BTreeSet<String>, sqlx::Error> {
    let owners: Vec<Option<String>> =
        sqlx::query_scalar("select distinct owner from inbox.progress").fetch_all(connection).await?;
    Ok(owners.into_iter().flatten().collect())
}

/// Deadlocks that the server broke in this database.
pub(super) async fn count_deadlocks(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select deadlocks from pg_stat_database where datname = current_database()")
        .fetch_one(connection)
        .await
}

/// Ends the members' connections; answers how many.
pub(super) async fn terminate(connection: &mut PgConnection, role: &str) -> Result<usize, sqlx::Error> {
    let ended: Vec<bool> =
        sqlx::query_scalar("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1")
            .bind(role)
            .fetch_all(connection)
            .await?;
    Ok(ended.len())
}

/// New connections of the members are refused beyond this number; -1 is no limit.
pub(super) async fn limit_connections(
    connection: &mut PgConnection,
    role: &str,
    limit: i32,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("alter role {role} connection limit {limit}")))
        .execute(connection)
        .await?;
    Ok(())
}

/// Statements of the members' new connections end after this time; `None` takes the limit off.
pub(super) async fn limit_statements(
    connection: &mut PgConnection,
    role: &str,
    limit: Option<&str>,
) -> Result<(), sqlx::Error> {
    let order = match limit {
        Some(limit) => format!("alter role {role} set statement_timeout = '{limit}'"),
        None => format!("alter role {role} reset statement_timeout"),
    };
    sqlx::raw_sql(AssertSqlSafe(order)).execute(connection).await?;
    Ok(())
}

/// Keeps the members from writing their counters until the transaction ends.
pub(super) async fn hold_totals(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("lock table torture.total in exclusive mode").execute(tx).await?;
    Ok(())
}
