//! The transaction of a batch: what begins it, what it is checked by, and whether its commit waits for the disk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use inbox::{FloodLimits, StopReason};
use sqlx::PgConnection;

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
async fn bits_that_vanish_within_a_batch_are_written_all_the_same() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    fixture.produce(&events(0, 0..10)).await?;
    fixture.passed(10).await?;
    meddle(&mut connection, "delete from inbox.event_handled").await?;
    fixture.produce(&events(0, 10..20)).await?;
    fixture.passed(20).await?;
    sqlx::raw_sql("drop trigger meddle on effect").execute(&mut connection).await?;
    fixture.produce(&events(0, 0..21)).await?;
    fixture.passed(41).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..21));
    assert_eq!(fixture.sums().await?, [21, 20, 0, 0]);
    fixture.remove().await
}

/// Events of so many blocks, apart by more than a block has bits.
fn far_apart(first: u64, blocks: u64) -> Vec<Record> {
    (0..blocks).map(|block| Record::event(0, block * 5_000 + first, &format!("e{block}/{first}"))).collect()
}

#[tokio::test]
async fn every_block_of_a_batch_is_remembered_be_they_few_or_many() -> Result<()> {
    for blocks in [3, 4, 50] {
        let fixture = Fixture::new(1).await?;
        // Blocks that are new, then blocks that exist, then all of it again.
        let records = [far_apart(0, blocks), far_apart(1, blocks)];
        let mut passed = 0;
        for turn in [&records[..1], &records[1..], &records[..]] {
            let turn = turn.concat();
            fixture.produce(&turn).await?;
            // So all of them are one batch.
            let running = fixture.start();
            passed += i64::try_from(turn.len())?;
            fixture.passed(passed).await?;
            running.stop().await?;
        }
        let events = 2 * i64::try_from(blocks)?;
        assert_eq!(fixture.sums().await?, [events, events, 0, 0]);
        fixture.remove().await?;
    }
    Ok(())
}

/// Notes how statements are planned where a projection has its effect.
const NOTE_PLANS: &str = "
    create table plan_note (mode text, scans text);
    create function note_plans() returns trigger language plpgsql as $$ begin
        insert into plan_note values (current_setting('plan_cache_mode'), current_setting('enable_seqscan'));
        return null;
    end $$;
    create trigger note_plans after insert on effect for each statement execute function note_plans();
";

#[tokio::test]
async fn a_projections_statements_are_planned_for_the_values_at_hand() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::raw_sql(NOTE_PLANS).execute(&mut connection).await?;
    fixture.produce(&events(0, 0..10)).await?;
    let running = fixture.start();
    fixture.passed(10).await?;
    fixture.produce(&events(0, 10..20)).await?;
    fixture.passed(20).await?;
    running.stop().await?;
    let notes: Vec<(String, String)> =
        sqlx::query_as("select distinct mode, scans from plan_note").fetch_all(&mut connection).await?;
    assert_eq!(notes, [("force_custom_plan".to_owned(), "on".to_owned())]);
    fixture.remove().await
}

/// Refuses an effect when it is committed, and not before.
const REFUSE_AT_COMMIT: &str = "
    create function refuse() returns trigger language plpgsql as $$ begin
        raise exception 'refused' using errcode = 'check_violation';
    end $$;
    create constraint trigger refuse after insert on effect
        deferrable initially deferred for each row when (new.name = 'e5') execute function refuse();
";

#[tokio::test]
async fn what_is_refused_at_the_commit_is_a_dead_letter_and_takes_nothing_with_it() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::raw_sql(REFUSE_AT_COMMIT).execute(&mut connection).await?;
    fixture.produce(&events(0, 0..10)).await?;
    let running = fixture.start();
    fixture.passed(10).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, [names(0..5), names(6..10)].concat());
    assert_eq!(fixture.reasons().await?, [(5, "constraint".to_owned())]);
    fixture.remove().await
}

/// Has the commit that moves an offset to 10 take longer than a transaction may.
const SLOW_COMMIT: &str = "
    create function sleep() returns trigger language plpgsql as $$ begin
        perform pg_sleep(3);
        return null;
    end $$;
    create constraint trigger sleep after update on inbox.progress
        deferrable initially deferred for each row when (new.next_offset = 10) execute function sleep();
";

#[tokio::test]
async fn a_commit_that_was_given_up_is_waited_for_before_its_batch_is_tried_again() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings();
    settings.transaction_timeout = Duration::from_secs(1);
    let running = fixture.start_with(settings, fixture.database.options());
    fixture.produce(&events(0, 0..5)).await?;
    fixture.passed(5).await?;
    sqlx::raw_sql(SLOW_COMMIT).execute(&mut connection).await?;
    fixture.produce(&events(0, 5..10)).await?;
    fixture.passed(10).await?;
    fixture.produce(&events(0, 10..15)).await?;
    fixture.passed(15).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..15));
    assert_eq!(fixture.sums().await?, [15, 0, 0, 0]);
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
