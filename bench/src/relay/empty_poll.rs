//! What an idle relay costs: the server's time for a poll that finds nothing, and the process's own.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::figures::Figures;
use crate::pipeline::Pipeline;

/// Length of idling.
const IDLE: Duration = Duration::from_secs(10);
/// Time for the relay to claim its shards.
const WARM_UP: Duration = Duration::from_secs(3);
/// Polls that are timed.
const POLLS: usize = 1_000;

/// An idle relay sends one statement for all of its shards: where does the next window end? It is timed by the server itself,
/// planning included, in the words in which the relay was seen to send it.
pub(super) async fn once(figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let role = pipeline.start("relay")?;
    tokio::time::sleep(WARM_UP).await;
    let mut connection = pipeline.connect().await?;
    let statement = seen_statement(&mut connection).await?;
    let before = (role.usage()?.cpu, active_millis(&mut connection).await?);
    tokio::time::sleep(IDLE).await;
    let process = role.usage()?.cpu.saturating_sub(before.0);
    let server = active_millis(&mut connection).await? - before.1;
    figures.add("relay.idle_cpu", "% of a core", share(process.as_secs_f64()));
    figures.add("relay.idle_server", "% of a core", share(server / 1_000.0));
    drop(role);

    let micros = time_poll(&mut connection, &statement).await?;
    figures.add("relay.empty_poll_us", "µs", micros);
    drop(connection);
    pipeline.remove().await
}

fn share(seconds: f64) -> f64 {
    seconds / IDLE.as_secs_f64() * 100.0
}

/// The statement that the relay's reading connection sent last.
async fn seen_statement(connection: &mut PgConnection) -> Result<String> {
    let statement: Option<String> = sqlx::query_scalar(
        "select query from pg_stat_activity
          where datname = current_database() and application_name = 'outbox-relay' and query like 'select coalesce(tick%'",
    )
    .fetch_optional(connection)
    .await?;
    statement.context("the relay is not seen polling")
}

/// Milliseconds that all sessions of this database have worked; lags by a second.
async fn active_millis(connection: &mut PgConnection) -> Result<f64> {
    let active =
        sqlx::query_scalar("select active_time from pg_stat_database where datname = current_database()");
    Ok(active.fetch_one(connection).await?)
}

/// The median of the server's times for planning and running.
async fn time_poll(connection: &mut PgConnection, statement: &str) -> Result<f64> {
    sqlx::raw_sql(AssertSqlSafe(format!("prepare poll (text) as {statement}")))
        .execute(&mut *connection)
        .await?;
    let position: String = sqlx::query_scalar("select max(position::text) from outbox.shard")
        .fetch_one(&mut *connection)
        .await?;
    let explain = format!("explain (analyze, timing off, format json) execute poll ('{position}')");
    let mut times = Vec::with_capacity(POLLS);
    for _ in 0..POLLS {
        let plan: serde_json::Value =
            sqlx::query_scalar(AssertSqlSafe(explain.clone())).fetch_one(&mut *connection).await?;
        let millis = |name: &str| plan.pointer(&format!("/0/{name}")).and_then(serde_json::Value::as_f64);
        let total = millis("Planning Time").context("no planning time")?
            + millis("Execution Time").context("no execution time")?;
        times.push(total * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    times.get(POLLS / 2).copied().context("no polls")
}
