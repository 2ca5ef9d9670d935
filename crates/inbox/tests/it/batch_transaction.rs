//! The transaction of a batch: what begins it, what it is checked by, and whether its commit waits for the disk.

use std::sync::atomic::Ordering;

use anyhow::Result;
use inbox::{FloodLimits, StopReason};
use sqlx::PgConnection;
use testkit::eventually;

use crate::fixture::{Fixture, Record, events, names};

#[tokio::test]
async fn a_transaction_that_a_projection_begins_is_a_part_of_the_batchs() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let overflow = Record::event(0, 50, "overflow");
    fixture.produce(&[events(0, 0..50), vec![overflow], events(0, 51..100)].concat()).await?;
    let running = fixture.start();
    running.effects.has_own_transaction.store(true, Ordering::SeqCst);
    fixture.passed(100).await?;
    running.stop().await?;
    // A commit in the middle would have kept what the refused batch wrote, and its parts wrote it again.
    assert_eq!(fixture.effects().await?, [names(0..50), names(51..100)].concat());
    assert_eq!(fixture.reasons().await?, [(50, "refused_by_database".to_owned())]);
    fixture.remove().await
}

/// Notes, as the commit begins, whether it is one that waits for the disk.
const NOTE_COMMITS: &str = "
    create table commit_note (dead_lettered bigint, is_halted boolean, synchronous_commit text);
    create function note_commit() returns trigger language plpgsql as $$ begin
        insert into commit_note
        values (new.dead_lettered - old.dead_lettered, new.halted is not null, current_setting('synchronous_commit'));
        return null;
    end $$;
    create constraint trigger note_commit after update on inbox.progress
        deferrable initially deferred for each row execute function note_commit();
";

#[tokio::test]
async fn only_commits_that_others_hear_of_wait_for_the_disk() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::raw_sql(NOTE_COMMITS).execute(&mut connection).await?;
    let mut settings = fixture.settings();
    settings.flood = FloodLimits { in_a_row_max: 2, ..FloodLimits::default() };
    let running = fixture.start_with(settings, fixture.database.options());
    fixture.produce(&events(0, 0..10)).await?;
    fixture.passed(10).await?;
    fixture.produce(&[Record::event(0, 10, "bad"), Record::event(0, 11, "good")]).await?;
    fixture.passed(12).await?;
    fixture.produce(&events(0, 12..20)).await?;
    fixture.passed(20).await?;
    fixture.produce(&[Record::event(0, 20, "bad"), Record::event(0, 21, "bad")]).await?;
    assert!(matches!(running.stop_reason().await?, StopReason::Halted(_)));
    running.stop().await?;
    let notes: Vec<(i64, bool, String)> =
        sqlx::query_as("select * from commit_note").fetch_all(&mut connection).await?;
    for note in &notes {
        let (letters, is_halted, waits) = note;
        let expected = if *letters > 0 || *is_halted { "on" } else { "off" };
        assert_eq!(waits, expected, "{note:?}");
    }
    assert!(notes.iter().any(|(letters, is_halted, _)| *letters == 0 && !is_halted), "{notes:?}");
    assert!(notes.iter().any(|(letters, is_halted, _)| *letters > 0 && !is_halted), "{notes:?}");
    assert!(notes.iter().any(|(_, is_halted, _)| *is_halted), "{notes:?}");
    fixture.remove().await
}

/// Has a statement run in the middle of every batch.
async fn meddle(connection: &mut PgConnection, statement: &'static str) -> Result<()> {
    let trigger = format!(
        "create function meddle() returns trigger language plpgsql as $$ begin {statement}; return null; end $$;
         create trigger meddle after insert on effect for each statement execute function meddle()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(connection).await?;
    Ok(())
}

#[tokio::test]
async fn an_offset_that_moves_within_a_batch_stops_its_partition_and_nothing_counts() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    meddle(&mut connection, "update inbox.progress set next_offset = next_offset + 1").await?;
    fixture.produce(&events(0, 0..10)).await?;
    let running = fixture.start();
    assert_eq!(running.stop_reason().await?, StopReason::NoProgress);
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..0));
    assert_eq!(fixture.sums().await?, [0; 4]);
    fixture.remove().await
}

#[tokio::test]
async fn bits_that_cannot_be_written_hold_their_batch_up() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    fixture.produce(&events(0, 0..10)).await?;
    fixture.passed(10).await?;
    meddle(&mut connection, "delete from inbox.event_handled").await?;
    fixture.produce(&events(0, 10..20)).await?;
    eventually("the batch is tried again", async || {
        let partitions = running.status.partitions();
        let retrying = partitions.into_iter().find_map(|partition| partition.retrying);
        Ok(retrying.filter(|text| text.contains("0 of 1 locked rows")))
    })
    .await?;
    assert_eq!(fixture.effects().await?, names(0..10));
    sqlx::raw_sql("drop trigger meddle on effect").execute(&mut connection).await?;
    fixture.passed(20).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..20));
    fixture.remove().await
}

/// All that a batch writes, put aside as it is, and put back: what a crash does to commits that did not wait for the disk.
const PUT_ASIDE: &str = "
    create schema aside;
    create table aside.progress as table inbox.progress;
    create table aside.event_handled as table inbox.event_handled;
    create table aside.effect as select name, topic, partition from effect;
";
const PUT_BACK: &str = "
    begin;
    delete from inbox.progress;
    insert into inbox.progress select * from aside.progress;
    delete from inbox.event_handled;
    insert into inbox.event_handled select * from aside.event_handled;
    delete from effect;
    insert into effect (name, topic, partition) select * from aside.effect;
    commit;
    select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid();
";

#[tokio::test]
async fn what_a_crash_of_the_server_takes_back_is_read_again() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    fixture.produce(&events(0, 0..10)).await?;
    fixture.passed(10).await?;
    sqlx::raw_sql(PUT_ASIDE).execute(&mut connection).await?;
    fixture.produce(&events(0, 10..20)).await?;
    fixture.passed(20).await?;
    sqlx::raw_sql(PUT_BACK).execute(&mut connection).await?;
    assert_eq!(fixture.effects().await?.len(), 10);
    fixture.produce(&events(0, 20..30)).await?;
    fixture.passed(30).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..30));
    assert_eq!(fixture.sums().await?, [30, 0, 0, 0]);
    fixture.remove().await
}
