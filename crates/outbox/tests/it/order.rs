//! Key order and completeness under concurrent writers, against an oracle: a counter that each writer raises under the
//! key's row lock, so that it is the commit order.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use outbox::{AppendLimits, TickerSettings};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, Found, ensure_ordered};

const WRITERS: u64 = 24;
const TRANSACTIONS: u64 = 150;
const KEYS: u64 = 20;

/// A small generator of its own for each writer, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(
        "create table counter (key bigint primary key, changes bigint not null default 0);
         create table other (writer bigint);",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query("insert into counter (key) select generate_series(0, $1)")
        .bind(i64::try_from(KEYS)? - 1)
        .execute(connection)
        .await?;
    Ok(())
}

async fn write(fixture: &Fixture, connection: &mut PgConnection, dice: &mut Dice) -> Result<()> {
    let mut tx = connection.begin().await?;
    if dice.roll(2) == 0 {
        // Gets its transaction id long before it has the key's lock.
        sqlx::query("insert into other (writer) values (1)").execute(&mut *tx).await?;
    }
    let key = dice.roll(KEYS);
    if dice.roll(5) == 0 {
        // A savepoint that is rolled back takes its event with it.
        let mut savepoint = tx.begin().await?;
        append_change(fixture, &mut savepoint, key, "-1").await?;
        savepoint.rollback().await?;
    }
    let mut savepoint = tx.begin().await?;
    let changes = raise(&mut savepoint, key).await?;
    append_change(fixture, &mut savepoint, key, &changes.to_string()).await?;
    savepoint.commit().await?;
    if dice.roll(20) == 0 {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok(())
}

async fn raise(connection: &mut PgConnection, key: u64) -> Result<i64> {
    let raised =
        sqlx::query_scalar("update counter set changes = changes + 1 where key = $1 returning changes")
            .bind(i64::try_from(key)?)
            .fetch_one(connection)
            .await?;
    Ok(raised)
}

async fn append_change(
    fixture: &Fixture,
    connection: &mut PgConnection,
    key: u64,
    change: &str,
) -> Result<()> {
    let event = fixture.event(&key.to_string(), change);
    Ok(outbox::append(connection, &[event], &AppendLimits::default()).await?)
}

pub(crate) async fn write_all(fixture: &std::sync::Arc<Fixture>) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let fixture = std::sync::Arc::clone(fixture);
        writers.spawn(async move {
            let mut connection = fixture.database.connect().await?;
            let mut dice = Dice(writer + 1);
            for _ in 0..TRANSACTIONS {
                write(&fixture, &mut connection, &mut dice).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// Every change of every key, once, in its order: nothing lost, nothing early, nothing of a rollback.
pub(crate) async fn ensure_exact(fixture: &Fixture, found: &[&Found]) -> Result<()> {
    let mut connection = fixture.database.connect().await?;
    let counters: Vec<(i64, i64)> =
        sqlx::query_as("select key, changes from counter").fetch_all(&mut connection).await?;
    let mut by_key: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for record in found {
        let change = record.payload.as_deref().context("no payload")?.parse()?;
        by_key.entry(record.key.parse()?).or_default().push(change);
    }
    for (key, changes) in counters {
        let expected: Vec<i64> = (1..=changes).collect();
        anyhow::ensure!(by_key.remove(&key).unwrap_or_default() == expected, "key {key}: {changes} changes");
    }
    anyhow::ensure!(by_key.is_empty(), "unknown keys");
    ensure_ordered(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_four_writers_are_published_in_the_commit_order_of_each_key() -> Result<()> {
    let fixture = std::sync::Arc::new(Fixture::new().await?);
    prepare(&mut fixture.database.connect().await?).await?;
    let stop = CancellationToken::new();
    // Far more ticks than in life, from two tickers: each is a place where a window may end.
    let settings = TickerSettings { interval: Duration::from_millis(20) };
    let tickers = [(); 2]
        .map(|()| tokio::spawn(outbox::ticker::run(settings, fixture.database.options(), stop.clone())));
    let relay = fixture.relay("a");
    write_all(&fixture).await?;
    fixture.settled().await?;
    let found = fixture.found().await?;
    // Without a failure nothing is sent twice.
    ensure_exact(&fixture, &found.iter().collect::<Vec<_>>()).await?;
    relay.stop().await?;
    stop.cancel();
    for ticker in tickers {
        ticker.await?;
    }
    std::sync::Arc::into_inner(fixture).context("still used")?.remove().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_was_written_without_a_relay_is_read_tick_by_tick() -> Result<()> {
    let fixture = std::sync::Arc::new(Fixture::new().await?);
    prepare(&mut fixture.database.connect().await?).await?;
    let stop = CancellationToken::new();
    let settings = TickerSettings { interval: Duration::from_millis(20) };
    let ticker = tokio::spawn(outbox::ticker::run(settings, fixture.database.options(), stop.clone()));
    write_all(&fixture).await?;
    stop.cancel();
    ticker.await?;
    let mut connection = fixture.database.connect().await?;
    let ticks: i64 =
        sqlx::query_scalar("select count(*) from outbox.tick").fetch_one(&mut connection).await?;
    assert!(ticks > 5, "{ticks} ticks");
    let relay = fixture.relay("a");
    fixture.settled().await?;
    let found = fixture.found().await?;
    ensure_exact(&fixture, &found.iter().collect::<Vec<_>>()).await?;
    relay.stop().await?;
    std::sync::Arc::into_inner(fixture).context("still used")?.remove().await
}
