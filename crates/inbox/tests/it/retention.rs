//! What is forgotten is never counted again, and the books say that it was forgotten.

use std::time::Duration;

use anyhow::Result;
use inbox::retention::{Forgotten, RetentionSettings, forget_now};
use sqlx::{Connection as _, PgConnection};
use testkit::eventually;
use uuid::{NoContext, Timestamp, Uuid};

use crate::fixture::{Fixture, Record};

const BLOCK: u64 = 4_096;
const WEEK: u64 = 7 * 24 * 3_600;
/// Makes everything that was noted or handled so far old enough to be forgotten.
const AGE: &str = "update inbox.dedup_sample set taken_at = taken_at - interval '401 days';
                   update inbox.event_handled_id set handled_at = handled_at - interval '401 days'";

fn settings() -> RetentionSettings {
    // So short that each call takes a sample.
    RetentionSettings { interval: Duration::from_millis(1), ..RetentionSettings::default() }
}

async fn age(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(AGE).execute(connection).await?;
    Ok(())
}

/// An event that is known by its id alone.
fn with_id(id: Uuid, name: &str) -> Record {
    Record::plain(0, name).with("ce_type", b"Counted").with("ce_id", id.to_string().as_bytes())
}

/// A `UUIDv7` that was made so many weeks ago.
async fn id_of(connection: &mut PgConnection, weeks_ago: u64) -> Result<Uuid> {
    let now: i64 =
        sqlx::query_scalar("select extract(epoch from now())::bigint").fetch_one(connection).await?;
    let seconds = u64::try_from(now)? - weeks_ago * WEEK;
    Ok(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0)))
}

/// Handles an event of block 0 and one of block 9, and makes them old enough for the first to be forgotten.
async fn handle_two_and_age(fixture: &Fixture, connection: &mut PgConnection) -> Result<()> {
    fixture.produce(&[Record::event(0, 0, "first"), Record::event(0, 9 * BLOCK, "second")]).await?;
    fixture.passed(2).await?;
    forget_now(connection, &settings()).await?;
    age(connection).await
}

fn forgotten(sequences: i64, ids: i64) -> Forgotten {
    Forgotten { sequences, ids, gave_way: false }
}

#[tokio::test]
async fn a_sequence_below_the_floor_is_a_dead_letter_and_one_above_it_counts() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    // Two events in each of three blocks, so many numbers apart that one transaction does not reach the floor.
    let old: Vec<Record> = [0, 1, 600 * BLOCK, 600 * BLOCK + 1, 1_200 * BLOCK, 1_200 * BLOCK + 1]
        .map(|sequence| Record::event(0, sequence, &format!("e{sequence}")))
        .into();
    fixture.produce(&old).await?;
    fixture.passed(6).await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, forgotten(0, 0), "it is too young");
    age(&mut connection).await?;
    // The block of the note itself is kept.
    assert_eq!(forget_now(&mut connection, &settings()).await?, forgotten(4, 0));
    fixture.check_balance().await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, forgotten(0, 0));

    // All of them again; one that was never seen below the floor, and new ones above it, in an old and in a new block.
    fixture.produce(&old).await?;
    let others = [2, 700 * BLOCK, 1_200 * BLOCK + 2, 1_201 * BLOCK]
        .map(|sequence| Record::event(0, sequence, &format!("n{sequence}")));
    fixture.produce(&others).await?;
    fixture.passed(16).await?;
    let outside = "outside_dedup_window".to_owned();
    let expected: Vec<_> = [6, 7, 8, 9, 12, 13].map(|offset| (offset, outside.clone())).into();
    assert_eq!(fixture.reasons().await?, expected);
    assert_eq!(fixture.sums().await?, [8, 2, 6, 0]);
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_floor_is_of_one_group_and_one_source() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    handle_two_and_age(&fixture, &mut connection).await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, forgotten(1, 0));
    let mut of_another = Record::plain(0, "third").with("ce_type", b"Counted");
    of_another = of_another.with("ce_source", b"urn:outbox:other").with("ce_sequence", b"0");
    fixture.produce(&[of_another]).await?;
    fixture.passed(3).await?;
    running.stop().await?;

    let mut other_group = fixture.settings();
    other_group.kafka.group = fixture.topics.name("new-group");
    let running = fixture.start_with(other_group, fixture.database.options());
    eventually("the other group has read it all", async || {
        let effects = fixture.effects().await?;
        Ok((effects.len() == 6).then_some(()))
    })
    .await?;
    assert_eq!(fixture.reasons().await?, []);
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn weeks_of_ids_are_dropped_with_and_without_a_partition() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    let (recent, old, ancient) = (
        id_of(&mut connection, 0).await?,
        id_of(&mut connection, 20).await?,
        id_of(&mut connection, 200).await?,
    );
    let timeless = Uuid::from_u128(0x1234_5678_1234_4234_8234_1234_5678_1234);
    // As if a streamer had run twenty weeks ago.
    let week = i32::try_from(u64::try_from(old.as_u128() >> 80)? / 1_000 / WEEK)?;
    sqlx::query("select inbox.add_id_week($1)").bind(week).execute(&mut connection).await?;
    let records = [with_id(recent, "r"), with_id(old, "o"), with_id(ancient, "a"), with_id(timeless, "t")];
    fixture.produce(&records).await?;
    fixture.passed(4).await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, forgotten(0, 0), "handled a moment ago");

    sqlx::raw_sql("update inbox.event_handled_id set handled_at = now() - interval '9 weeks'")
        .execute(&mut connection)
        .await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, forgotten(0, 2));
    fixture.check_balance().await?;
    let dropped: bool =
        sqlx::query_scalar("select to_regclass(format('inbox.event_handled_id_w%s', $1::int)) is null")
            .bind(week)
            .fetch_one(&mut connection)
            .await?;
    assert!(dropped);

    let fresh = id_of(&mut connection, 19).await?;
    fixture.produce(&records).await?;
    fixture.produce(&[with_id(fresh, "f"), with_id(id_of(&mut connection, 21).await?, "g")]).await?;
    fixture.passed(10).await?;
    let outside = "outside_dedup_window".to_owned();
    assert_eq!(fixture.reasons().await?, [5, 6, 9].map(|offset| (offset, outside.clone())));
    assert_eq!(fixture.sums().await?, [5, 2, 3, 0]);

    // An id that is no UUIDv7 is kept as long as a sequence, and then counts again: documented.
    age(&mut connection).await?;
    let round = forget_now(&mut connection, &settings()).await?;
    assert_eq!(
        round,
        forgotten(0, 2),
        "the timeless and the one of 19 weeks ago; the recent one's week is not over"
    );
    fixture.produce(&[with_id(timeless, "t")]).await?;
    fixture.passed(11).await?;
    assert_eq!(fixture.sums().await?, [6, 2, 3, 0]);
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn partitions_are_made_ahead_of_the_weeks() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let weeks = "select count(*) from pg_inherits where inhparent = 'inbox.event_handled_id'::regclass";
    let before: i64 = sqlx::query_scalar(weeks).fetch_one(&mut connection).await?;
    sqlx::raw_sql(
        "do $$ begin
             execute format('drop table inbox.event_handled_id_w%s', floor(extract(epoch from now()) / 604800)::integer + 3);
         end $$",
    )
    .execute(&mut connection)
    .await?;
    forget_now(&mut connection, &settings()).await?;
    let after: i64 = sqlx::query_scalar(weeks).fetch_one(&mut connection).await?;
    assert_eq!(after, before);
    fixture.remove().await
}

#[tokio::test]
async fn retention_gives_way_to_a_batch_and_to_another_round() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    handle_two_and_age(&fixture, &mut connection).await?;
    let gave_way = Forgotten { gave_way: true, ..forgotten(0, 0) };

    let mut other = fixture.database.connect().await?;
    let mut batch = other.begin().await?;
    sqlx::query("select from inbox.event_handled for update").execute(&mut *batch).await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, gave_way);
    batch.rollback().await?;

    let mut round = other.begin().await?;
    sqlx::query("select pg_advisory_xact_lock(x'696e6278'::int, 1)").execute(&mut *round).await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, gave_way);
    round.rollback().await?;
    assert_eq!(forget_now(&mut connection, &settings()).await?, forgotten(1, 0));
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_batch_that_waited_for_retention_sees_the_floor() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    fixture.produce(&[Record::event(0, 0, "first"), Record::event(0, 9 * BLOCK, "second")]).await?;
    fixture.passed(2).await?;
    // A round of retention in the middle: the block is deleted, the floor is raised, nothing is committed.
    let mut round = connection.begin().await?;
    let deleted = sqlx::query("delete from inbox.event_handled where block = 0").execute(&mut *round).await?;
    assert_eq!(deleted.rows_affected(), 1);
    sqlx::query(
        "insert into inbox.dedup_window (consumer_group, source_id, floor_block, forgotten)
         select g.id, s.source_id, 9, 1 from inbox.consumer_group g, inbox.source s",
    )
    .execute(&mut *round)
    .await?;
    fixture.produce(&[Record::event(0, 0, "first")]).await?;
    fixture.database.somebody_waits("the batch waits for retention").await?;
    round.commit().await?;
    fixture.passed(3).await?;
    assert_eq!(fixture.reasons().await?, [(2, "outside_dedup_window".to_owned())]);
    assert_eq!(fixture.effects().await?, ["first", "second"]);
    running.stop().await?;
    fixture.remove().await
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |change: fn(&mut RetentionSettings)| {
        let mut settings = RetentionSettings::default();
        change(&mut settings);
        settings.check().map_err(|error| error.name)
    };
    assert_eq!(refused(|_| {}), Ok(()));
    assert_eq!(refused(|settings| settings.keep = Duration::from_secs(3_599)), Err("keep"));
    assert_eq!(refused(|settings| settings.keep = Duration::MAX), Err("keep"));
    assert_eq!(refused(|settings| settings.keep_ids = Duration::from_secs(WEEK - 1)), Err("keep_ids"));
    assert_eq!(refused(|settings| settings.interval = Duration::ZERO), Err("interval"));
    assert_eq!(refused(|settings| settings.interval = Duration::from_secs(WEEK + 1)), Err("interval"));
}

#[tokio::test]
async fn a_floor_that_rises_before_the_insert_of_a_block_is_seen_behind_it() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let running = fixture.start();
    fixture.produce(&[Record::event(0, 9 * BLOCK, "first")]).await?;
    fixture.passed(1).await?;
    // Whoever adds a block waits for the door.
    sqlx::raw_sql(
        "create function door() returns trigger language plpgsql as $$
         begin perform pg_advisory_xact_lock_shared(77); return new; end $$;
         create trigger door before insert on inbox.event_handled for each row execute function door();
         select pg_advisory_lock(77);",
    )
    .execute(&mut connection)
    .await?;
    fixture.produce(&[Record::event(0, 0, "second")]).await?;
    let mut observer = fixture.database.connect().await?;
    eventually("the batch is at the door", async || {
        let waiting =
            "select count(*) from pg_locks where locktype = 'advisory' and objid = 77 and not granted";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut observer).await?;
        Ok((waiting > 0).then_some(()))
    })
    .await?;
    // Another owner of the lane may have handled it, and retention may have forgotten that.
    sqlx::raw_sql(
        "insert into inbox.dedup_window (consumer_group, source_id, floor_block, forgotten)
         select g.id, s.source_id, 9, 0 from inbox.consumer_group g, inbox.source s",
    )
    .execute(&mut connection)
    .await?;
    sqlx::query("select pg_advisory_unlock(77)").execute(&mut connection).await?;
    fixture.passed(2).await?;
    assert_eq!(fixture.reasons().await?, [(1, "outside_dedup_window".to_owned())]);
    assert_eq!(fixture.effects().await?, ["first"]);
    running.stop().await?;
    fixture.remove().await
}
