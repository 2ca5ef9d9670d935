//! Writers that have no row to lock, against an oracle: a number that each transaction draws while it commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use outbox::{AppendError, AppendLimits, NewEvent, SERIALIZED_KEYS_MAX, TickerSettings};
use sqlx::{Connection, PgConnection};
use testkit::eventually;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;

const WRITERS: u64 = 24;
const TRANSACTIONS: u64 = 40;
const KEYS: u64 = 5;

/// How a writer appends.
#[derive(Clone, Copy)]
enum Append {
    Plain,
    Serialized,
}

impl Append {
    async fn call(self, tx: &mut PgConnection, events: &[NewEvent]) -> Result<(), AppendError> {
        match self {
            Self::Plain => outbox::append(tx, events, &AppendLimits::default()).await,
            Self::Serialized => outbox::append_serialized(tx, events, &AppendLimits::default()).await,
        }
    }
}

/// A journal that any number of writers fill without touching a common row. Its deferred trigger runs as the last thing
/// before the commit.
async fn prepare(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(
        "create sequence commit_turn;
         create table journal (event_id uuid);
         create table turn (event_id uuid primary key, turn bigint not null);
         create function take_turn() returns trigger language plpgsql as $$
         begin
             insert into turn values (new.event_id, nextval('commit_turn'));
             return null;
         end $$;
         create constraint trigger take_turn after insert on journal
             deferrable initially deferred for each row execute function take_turn();",
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write(fixture: &Fixture, connection: &mut PgConnection, append: Append, number: u64) -> Result<()> {
    let mut tx = connection.begin().await?;
    if number.is_multiple_of(2) {
        // Gets its transaction id long before it has the key's lock.
        sqlx::query("select pg_current_xact_id()").execute(&mut *tx).await?;
    }
    // Two keys in either order: taken in this order, the locks would be waited for in a circle.
    let keys = [number % KEYS, (number / KEYS) % KEYS];
    let events = keys.map(|key| fixture.event(&key.to_string(), "0"));
    append.call(&mut tx, &events).await?;
    for event in &events {
        sqlx::query("insert into journal values ($1)").bind(event.event_id).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Lets all writers write and answers how many events stand in the topic before one of their key that committed earlier.
async fn disorder(append: Append) -> Result<usize> {
    let fixture = Arc::new(Fixture::new().await?);
    prepare(&mut fixture.database.connect().await?).await?;
    let stop = CancellationToken::new();
    let ticker = tokio::spawn(outbox::ticker::run(
        TickerSettings::default(),
        fixture.database.options(),
        stop.clone(),
    ));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let fixture = Arc::clone(&fixture);
        writers.spawn(async move {
            let mut connection = fixture.database.connect().await?;
            for transaction in 0..TRANSACTIONS {
                write(&fixture, &mut connection, append, writer * 7 + transaction * 11).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    let relay = fixture.relay("a");
    fixture.settled().await?;
    stop.cancel();
    ticker.await?;
    let breaks = count_breaks(&fixture).await?;
    relay.stop().await?;
    Arc::into_inner(fixture).context("still used")?.remove().await?;
    Ok(breaks)
}

async fn count_breaks(fixture: &Fixture) -> Result<usize> {
    let mut connection = fixture.database.connect().await?;
    let turns: Vec<(uuid::Uuid, i64)> =
        sqlx::query_as("select event_id, turn from turn").fetch_all(&mut connection).await?;
    let turns: BTreeMap<String, i64> = turns.into_iter().map(|(id, turn)| (id.to_string(), turn)).collect();
    let found = fixture.found().await?;
    anyhow::ensure!(found.len() == turns.len(), "{} of {} events", found.len(), turns.len());
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut breaks = 0;
    for record in &found {
        let turn = *turns.get(record.header("ce_id")?).context("an unknown event")?;
        let before = last.insert(&record.key, turn).unwrap_or(0);
        breaks += usize::from(before > turn);
    }
    Ok(breaks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_without_a_common_row_keep_the_commit_order_of_each_key() -> Result<()> {
    assert_eq!(disorder(Append::Serialized).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_writers_break_the_order_without_the_locks() -> Result<()> {
    assert!(disorder(Append::Plain).await? > 0, "the oracle sees no disorder");
    Ok(())
}

#[tokio::test]
async fn a_second_writer_of_a_key_gets_its_id_after_the_first_has_committed() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut first = fixture.database.connect().await?;
    let mut second = fixture.database.connect().await?;
    let mut observer = fixture.database.connect().await?;
    let limits = AppendLimits::default();
    let mut tx = first.begin().await?;
    outbox::append_serialized(&mut tx, &[fixture.event("1", "1")], &limits).await?;
    let late = fixture.event("1", "2");
    let other_key = fixture.event("2", "0");
    let write_late = async {
        let mut tx = second.begin().await?;
        outbox::append_serialized(&mut tx, std::slice::from_ref(&late), &limits).await?;
        tx.commit().await?;
        anyhow::Ok(())
    };
    let look_then_commit = async {
        eventually("the second writer waits", async || {
            let waits: bool = sqlx::query_scalar(
                "select exists (select from pg_locks
                                 where locktype = 'advisory' and not granted
                                   and database = (select oid from pg_database where datname = current_database()))",
            )
            .fetch_one(&mut observer)
            .await?;
            Ok(waits.then_some(()))
        })
        .await?;
        // Another key is not held up.
        let mut free = observer.begin().await?;
        outbox::append_serialized(&mut free, &[other_key], &limits).await?;
        free.commit().await?;
        tx.commit().await?;
        anyhow::Ok(())
    };
    let (late, committed) = tokio::join!(write_late, look_then_commit);
    late?;
    committed?;
    let payloads: Vec<String> =
        sqlx::query_scalar("select convert_from(payload, 'UTF8') from outbox.event order by id")
            .fetch_all(&mut observer)
            .await?;
    assert_eq!(payloads, ["1", "0", "2"]);
    fixture.remove().await
}

#[tokio::test]
async fn too_many_keys_are_refused_inside_the_transaction_which_stays_usable() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut tx = connection.begin().await?;
    let limits = AppendLimits::default();
    let too_many = fixture.events(SERIALIZED_KEYS_MAX + 1, SERIALIZED_KEYS_MAX + 1);
    let refused = outbox::append_serialized(&mut tx, &too_many, &limits).await;
    assert!(matches!(refused, Err(AppendError::TooManyKeys { keys: 1_001 })), "{refused:?}");
    // Events of one key count once.
    let events = fixture.events(3 * SERIALIZED_KEYS_MAX, SERIALIZED_KEYS_MAX);
    outbox::append_serialized(&mut tx, &events, &limits).await?;
    tx.commit().await?;
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 3_000);
    fixture.remove().await
}
