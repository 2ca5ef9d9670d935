//! Shards as operators see them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

/// One shard: ownership, and what lies behind its position.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct StoredShard {
    pub(crate) shard: i16,
    pub(crate) owner: Option<String>,
    pub(crate) epoch: i64,
    /// Negative when it has run out; `None` when there never was one.
    pub(crate) lease_seconds: Option<f64>,
    /// Unpublished rows of transactions that began after the position; at most as many as were asked for.
    pub(crate) began_later: i64,
    /// Lowest and middle id of those.
    pub(crate) first_id: Option<i64>,
    pub(crate) middle_id: Option<i64>,
    /// Unpublished rows of transactions that ran in the position; at most as many as were asked for.
    pub(crate) ran: i64,
    /// Rows that are set aside; at most as many as were asked for.
    pub(crate) parked: i64,
    /// The last id that was handed out.
    pub(crate) last_id: i64,
    /// Since the first tick after the position.
    pub(crate) age_seconds: Option<f64>,
}

/// Every shard. Counts up to `rows_max` rows of each of the two kinds, in the order of the index, and so many parked ones.
pub(crate) async fn load_shards(
    connection: &mut PgConnection,
    rows_max: u32,
) -> Result<Vec<StoredShard>, sqlx::Error> {
    sqlx::query_as(
        "select s.shard, s.owner, s.epoch,
                case when isfinite(s.lease_until)
                     then extract(epoch from s.lease_until - clock_timestamp())::float8 end as lease_seconds,
                began_later.rows as began_later, began_later.first_id, began_later.middle_id,
                ran.rows as ran,
                (select count(*) from (select from outbox.parked p where p.shard = s.shard limit $1) as found) as parked,
                (select last_value from outbox.event_id) as last_id,
                extract(epoch from clock_timestamp() - tick.taken_at)::float8 as age_seconds
           from outbox.shard s
          cross join lateral (
                select count(*) as rows, min(id) as first_id,
                       percentile_disc(0.5) within group (order by id) as middle_id
                  from (select e.id from outbox.event e
                         where e.shard = s.shard and e.txid >= pg_snapshot_xmax(s.position)
                           and not (s.window_end is not null and pg_visible_in_snapshot(e.txid, s.window_end)
                                    and e.id <= s.window_last_id)
                         order by e.txid limit $1) as earliest) as began_later
          cross join lateral (
                select count(*) as rows
                  from (select from outbox.event e
                         where e.shard = s.shard and e.txid = any (array(select pg_snapshot_xip(s.position)))
                           and not (s.window_end is not null and pg_visible_in_snapshot(e.txid, s.window_end)
                                    and e.id <= s.window_last_id)
                         limit $1) as found) as ran
           left join lateral (
                select taken_at from outbox.tick
                 where pg_snapshot_xmax(snapshot) > pg_snapshot_xmax(s.position)
                 order by pg_snapshot_xmax(snapshot), id limit 1) as tick on true
          order by s.shard",
    )
    .bind(i64::from(rows_max))
    .fetch_all(connection)
    .await
}

/// Makes the transaction one snapshot, its statements short, and its plans independent of statistics.
pub(crate) async fn begin_bounded(
    tx: &mut PgConnection,
    statement_timeout: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    sqlx::query(
        "select set_config('statement_timeout', $1, true), set_config('enable_seqscan', 'off', true)",
    )
    .bind(format!("{}ms", statement_timeout.as_millis()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Who answers, when, and the ticks it holds.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct StoredSource {
    pub(crate) at: DateTime<Utc>,
    pub(crate) database: String,
    pub(crate) system_identifier: i64,
    pub(crate) is_replica: bool,
    pub(crate) ticks: i64,
    /// Since the last tick.
    pub(crate) tick_age_seconds: Option<f64>,
}

pub(crate) async fn load_source(connection: &mut PgConnection) -> Result<StoredSource, sqlx::Error> {
    sqlx::query_as(
        "select clock_timestamp() as at, current_database() as database, server.system_identifier,
                pg_is_in_recovery() as is_replica, count(tick.id) as ticks,
                extract(epoch from clock_timestamp() - max(tick.taken_at))::float8 as tick_age_seconds
           from pg_control_system() as server
           left join outbox.tick on true
          group by server.system_identifier",
    )
    .fetch_one(connection)
    .await
}

/// A connection whose plans do not depend on statistics, which a table that was just filled has none of, and whose
/// statements end after `statement_timeout`.
pub(crate) async fn connect_observer(
    options: &PgConnectOptions,
    application: &str,
    statement_timeout: Duration,
) -> Result<PgConnection, sqlx::Error> {
    let timeout = format!("{}ms", statement_timeout.as_millis());
    options
        .clone()
        .application_name(application)
        .options([("enable_seqscan", "off"), ("jit", "off"), ("statement_timeout", timeout.as_str())])
        .disable_statement_logging()
        .connect()
        .await
}
