//! Truncation between writers and other processes: whose lock it waits for, for how long, and who waits for its.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use anyhow::Result;
use outbox::RetentionSettings;
use outbox::retention::{self, Kept};
use sqlx::{Connection, PgConnection};
use testkit::eventually;

use crate::fixture::Fixture;
use crate::retention::{LOCK_TIMEOUT, append_into, due_segment, fill, publish_all, rows, start};

/// Longer than any test: for those that free the lock themselves.
const PATIENT: Duration = Duration::from_secs(50);

/// A connection whose statements fail where a guard is missing, instead of waiting for ever.
async fn impatient(fixture: &Fixture) -> Result<PgConnection> {
    let options = fixture.database.options().options([("statement_timeout", "30s")]);
    Ok(PgConnection::connect_with(&options).await?)
}

/// Waits until somebody waits for a segment, or has it, exclusively.
async fn exclusive_lock(connection: &mut PgConnection, granted: bool) -> Result<bool> {
    let query = "select exists (select from pg_locks join pg_class on pg_class.oid = relation
                                 where relname like 'event\\__' and mode = 'AccessExclusiveLock' and granted = $1
                                   and database = (select oid from pg_database where datname = current_database()))";
    Ok(sqlx::query_scalar(query).bind(granted).fetch_one(connection).await?)
}

#[tokio::test]
async fn a_writer_that_holds_a_segment_keeps_it_and_other_writers_do_not_wait_for_him() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut first = fixture.database.connect().await?;
    let mut second = impatient(&fixture).await?;
    let segment = due_segment(&mut connection).await?;
    fill(&fixture, &mut connection, segment, 5).await?;
    publish_all(&mut connection).await?;
    let mut open = first.begin().await?;
    append_into(&fixture, &mut open, segment, "held").await?;

    let settings = RetentionSettings { interval: Duration::from_millis(10), ..RetentionSettings::default() };
    let (_, stop_retention) = start(&fixture, settings);
    eventually("the truncation waits for the writer", async || {
        Ok(exclusive_lock(&mut connection, false).await?.then_some(()))
    })
    .await?;
    // It stands in line behind the truncation, and would for as long as that waits for the open transaction.
    fill(&fixture, &mut second, segment, 1).await?;
    assert_eq!(rows(&mut connection).await?, 6);
    let kept = retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?;
    assert_eq!(kept, Some(Kept::Unpublished), "the second writer's row is not published");
    publish_all(&mut connection).await?;
    let kept = retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?;
    assert!(matches!(kept, Some(Kept::Locked | Kept::Elsewhere)), "{kept:?}");
    stop_retention.await?;
    let kept = retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?;
    assert_eq!(kept, Some(Kept::Locked));
    open.commit().await?;
    assert_eq!(rows(&mut connection).await?, 7);
    fixture.remove().await
}

/// The row is not there when the segment is looked at, and is committed while its lock is waited for.
async fn commit_between_look_and_lock(isolation: &str) -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut writer = fixture.database.connect().await?;
    let options = fixture.database.options().options([("default_transaction_isolation", isolation)]);
    let mut keeper = PgConnection::connect_with(&options).await?;
    let segment = due_segment(&mut connection).await?;
    fill(&fixture, &mut connection, segment, 5).await?;
    publish_all(&mut connection).await?;
    let mut late = writer.begin().await?;
    append_into(&fixture, &mut late, segment, "late").await?;
    let truncation = retention::truncate_now(&mut keeper, segment, PATIENT);
    let commit = async {
        eventually("the truncation waits for the writer", async || {
            Ok(exclusive_lock(&mut connection, false).await?.then_some(()))
        })
        .await?;
        late.commit().await?;
        anyhow::Ok(())
    };
    let (kept, committed) = tokio::join!(truncation, commit);
    committed?;
    assert_eq!(kept?, Some(Kept::Unpublished), "{isolation}");
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 1, "{isolation}");
    fixture.remove().await
}

#[tokio::test]
async fn a_row_that_is_committed_between_the_look_and_the_lock_is_not_lost() -> Result<()> {
    commit_between_look_and_lock("read committed").await?;
    // A database may have another default: the snapshot of the first statement would hide the row.
    commit_between_look_and_lock("repeatable read").await
}

#[tokio::test]
async fn one_process_truncates_at_a_time() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut other = fixture.database.connect().await?;
    let segment = due_segment(&mut connection).await?;
    fill(&fixture, &mut connection, segment, 5).await?;
    publish_all(&mut connection).await?;
    let key = i64::from_be_bytes(*b"outbtrun");
    sqlx::query("select pg_advisory_lock($1)").bind(key).execute(&mut other).await?;
    let kept = retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?;
    assert_eq!(kept, Some(Kept::Elsewhere));
    sqlx::query("select pg_advisory_unlock($1)").bind(key).execute(&mut other).await?;
    assert_eq!(retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?, None);
    fixture.remove().await
}

/// Steps a truncation until it is seen with the lock, then no further; answers `false` when it ended unseen.
async fn step_until_locked(
    truncation: Pin<&mut impl Future<Output = Result<Option<Kept>, sqlx::Error>>>,
    observer: &mut PgConnection,
) -> Result<bool> {
    let mut truncation = truncation;
    loop {
        let step = std::future::poll_fn(|context| Poll::Ready(truncation.as_mut().poll(context)));
        if step.await.is_ready() {
            return Ok(false);
        }
        if exclusive_lock(observer, true).await? {
            return Ok(true);
        }
    }
}

#[tokio::test]
async fn a_process_that_freezes_with_the_lock_in_hand_is_ended_by_the_server() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = impatient(&fixture).await?;
    let segment = due_segment(&mut connection).await?;
    loop {
        fill(&fixture, &mut connection, segment, 5).await?;
        publish_all(&mut connection).await?;
        let mut frozen = fixture.database.connect().await?;
        let mut truncation = pin!(retention::truncate_now(&mut frozen, segment, LOCK_TIMEOUT));
        if !step_until_locked(truncation.as_mut(), &mut connection).await? {
            continue;
        }
        let before = rows(&mut connection).await?;
        // Waits for as long as the frozen process has the lock.
        fill(&fixture, &mut connection, segment, 1).await?;
        // Its commit may have been on its way when it was seen; then it did not freeze with the lock.
        if truncation.await.is_ok() {
            continue;
        }
        assert_eq!(
            rows(&mut connection).await?,
            before + 1,
            "it woke up without its connection and took nothing away"
        );
        return fixture.remove().await;
    }
}
