//! Projections that are strict about the order of keys: what follows a dead letter waits, and comes in its turn.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use inbox::StopReason;
use inbox::dead_letter::{
    self, ActionReport, LetterFilter, LetterStatus, Mandate, RedriveSettings, Selection,
};
use kafka_client::ProducerSettings;
use testkit::eventually;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::{Fixture, Record, Running};

/// An event of a key in partition 0.
pub(crate) fn event(key: &str, sequence: u64, name: &str) -> Record {
    Record { key: key.as_bytes().to_vec(), ..Record::event(0, sequence, name) }
}

/// Key `a` with a poison event in its middle, and key `b`.
pub(crate) fn story() -> Vec<Record> {
    vec![
        event("a", 0, "e0"),
        event("a", 1, "bad 1"),
        event("a", 2, "e2"),
        event("b", 3, "e3"),
        event("a", 4, "e4"),
    ]
}

fn mandate() -> Result<Mandate> {
    Ok(Mandate::new(Uuid::from_u128(1), "ada", "mended in 1.2")?)
}

pub(crate) async fn redrive(fixture: &Fixture, filter: LetterFilter) -> Result<ActionReport> {
    redrive_up_to(fixture, filter, 3).await
}

pub(crate) async fn redrive_up_to(
    fixture: &Fixture,
    filter: LetterFilter,
    redrives_max: u32,
) -> Result<ActionReport> {
    let mut settings = RedriveSettings::new(ProducerSettings::new(fixture.client()));
    settings.redrives_max = redrives_max;
    let selection = Selection { filter, limit: None };
    let (mut connection, stop) = (fixture.database.connect().await?, CancellationToken::new());
    Ok(dead_letter::redrive(&mut connection, &settings, &selection, &mandate()?, &stop, |_| ()).await?)
}

pub(crate) async fn discard(fixture: &Fixture, filter: LetterFilter) -> Result<ActionReport> {
    let selection = Selection { filter, limit: None };
    let (mut connection, stop) = (fixture.database.connect().await?, CancellationToken::new());
    Ok(dead_letter::discard(&mut connection, &selection, &mandate()?, &stop, |_| ()).await?)
}

fn only(status: LetterStatus) -> LetterFilter {
    LetterFilter { statuses: vec![status], ..LetterFilter::default() }
}

/// Offset, status and reason of every letter, by offset.
async fn letters(fixture: &Fixture) -> Result<Vec<(i64, LetterStatus, String)>> {
    let filter = LetterFilter { statuses: LetterStatus::ALL.to_vec(), ..LetterFilter::default() };
    let mut connection = fixture.database.connect().await?;
    let letters = dead_letter::list_letters(&mut connection, &filter, 10_000).await?;
    let mut told: Vec<_> =
        letters.into_iter().map(|letter| (letter.place.offset, letter.status, letter.reason)).collect();
    told.sort_by_key(|(offset, ..)| *offset);
    Ok(told)
}

pub(crate) async fn statuses(fixture: &Fixture) -> Result<Vec<LetterStatus>> {
    Ok(letters(fixture).await?.into_iter().map(|(_, status, _)| status).collect())
}

/// Waits until these are all the effects, in this order.
pub(crate) async fn has_effects(fixture: &Fixture, expected: &[&str]) -> Result<()> {
    eventually("effects are there", async || {
        Ok((fixture.effects().await?.len() >= expected.len()).then_some(()))
    })
    .await?;
    assert_eq!(fixture.effects().await?, expected);
    Ok(())
}

/// Waits until no key is blocked.
pub(crate) async fn is_free(fixture: &Fixture) -> Result<()> {
    let mut connection = fixture.database.connect().await?;
    eventually("no key is blocked", async || {
        let keys: i64 =
            sqlx::query_scalar("select count(*) from inbox.blocked_key").fetch_one(&mut connection).await?;
        Ok((keys == 0).then_some(()))
    })
    .await
}

/// A strict streamer that has read `records`, mended since.
pub(crate) async fn mended(fixture: &Fixture, records: &[Record]) -> Result<Running> {
    fixture.produce(records).await?;
    let running = fixture.start_strict(fixture.unguarded());
    fixture.passed(i64::try_from(records.len())?).await?;
    running.effects.is_mended.store(true, Ordering::SeqCst);
    Ok(running)
}

#[tokio::test]
async fn what_follows_a_dead_letter_of_its_key_waits_and_comes_in_its_turn() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &story()).await?;
    has_effects(&fixture, &["e0", "e3"]).await?;
    let (new, blocked) = (LetterStatus::New, LetterStatus::Blocked);
    let expected = [(1, new, "malformed"), (2, blocked, "blocked"), (4, blocked, "blocked")]
        .map(|(offset, status, reason)| (offset, status, reason.to_owned()));
    assert_eq!(letters(&fixture).await?, expected);
    fixture.check_balance().await?;
    // Another batch of the key waits, too, although the cause is mended.
    fixture.produce(&[event("a", 5, "e5"), event("b", 6, "e6")]).await?;
    fixture.passed(7).await?;
    has_effects(&fixture, &["e0", "e3", "e6"]).await?;
    assert_eq!(redrive(&fixture, LetterFilter::default()).await?.done, 1);
    has_effects(&fixture, &["e0", "e3", "e6", "bad 1", "e2", "e4", "e5"]).await?;
    is_free(&fixture).await?;
    fixture.produce(&[event("a", 7, "e7")]).await?;
    has_effects(&fixture, &["e0", "e3", "e6", "bad 1", "e2", "e4", "e5", "e7"]).await?;
    running.stop().await?;
    let released = LetterStatus::Released;
    assert_eq!(statuses(&fixture).await?, [LetterStatus::Redriven, released, released, released]);
    assert_eq!((fixture.record_count(&fixture.topic).await?, fixture.sums().await?), (8, [4, 0, 4, 0]));
    fixture.remove().await
}

#[tokio::test]
async fn a_waiting_letter_names_the_first_and_cannot_overtake_it() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &story()).await?;
    let mut connection = fixture.database.connect().await?;
    let first = dead_letter::list_letters(&mut connection, &LetterFilter::default(), 10).await?;
    let waiting = dead_letter::list_letters(&mut connection, &only(LetterStatus::Blocked), 10).await?;
    assert_eq!((first.len(), waiting.len()), (1, 2));
    for letter in &waiting {
        let story = dead_letter::find_story(&mut connection, letter.id).await?.context("no story")?;
        assert_eq!((story.waits_for, story.is_handled), (Some(first[0].id), Some(false)));
    }
    let refused = redrive(&fixture, only(LetterStatus::Blocked)).await?;
    assert_eq!((refused.done, refused.left["blocked"]), (0, 2));
    let depths = dead_letter::letter_depths(&mut connection, &[fixture.group()]).await?;
    let depths: Vec<_> = depths.iter().map(|depth| (depth.status, depth.letters)).collect();
    assert_eq!(depths, [(LetterStatus::Blocked, 2), (LetterStatus::New, 1)]);
    redrive(&fixture, LetterFilter::default()).await?;
    is_free(&fixture).await?;
    let late = redrive(&fixture, only(LetterStatus::Redriven)).await?;
    assert_eq!((late.done, late.left["passed"]), (0, 1), "its key has gone on");
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "e3", "bad 1", "e2", "e4"]);
    fixture.remove().await
}

#[tokio::test]
async fn what_waits_behind_a_discarded_letter_goes_on_without_it_for_ever() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &story()).await?;
    assert_eq!(discard(&fixture, LetterFilter::default()).await?.done, 1);
    has_effects(&fixture, &["e0", "e3", "e2", "e4"]).await?;
    is_free(&fixture).await?;
    // The relay sends it once more, now that it could be applied: out of its turn.
    fixture.produce(&[event("a", 1, "bad 1"), event("a", 5, "e5")]).await?;
    has_effects(&fixture, &["e0", "e3", "e2", "e4", "e5"]).await?;
    running.stop().await?;
    assert_eq!(fixture.sums().await?, [3, 1, 3, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_waiting_letter_can_be_given_up_and_the_rest_keeps_its_order() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &story()).await?;
    let mut connection = fixture.database.connect().await?;
    let waiting = dead_letter::list_letters(&mut connection, &only(LetterStatus::Blocked), 10).await?;
    let middle = waiting.iter().find(|letter| letter.place.offset == 2).context("no letter")?;
    let filter = LetterFilter { ids: vec![middle.id], ..only(LetterStatus::Blocked) };
    assert_eq!(discard(&fixture, filter).await?.done, 1);
    fixture.check_balance().await?;
    redrive(&fixture, LetterFilter::default()).await?;
    is_free(&fixture).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "e3", "bad 1", "e4"]);
    let (redriven, discarded) = (LetterStatus::Redriven, LetterStatus::Discarded);
    assert_eq!(statuses(&fixture).await?, [redriven, discarded, LetterStatus::Released]);
    fixture.remove().await
}

#[tokio::test]
async fn a_letter_that_fails_in_its_turn_is_what_the_others_wait_for() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let records = [
        event("a", 0, "bad 0"),
        event("a", 1, "e1"),
        event("a", 2, "forbidden 2"),
        event("a", 3, "panic 3"),
        event("a", 4, "e4"),
    ];
    let running = mended(&fixture, &records).await?;
    redrive(&fixture, LetterFilter::default()).await?;
    for (offset, reason) in [(2, "constraint"), (3, "handler_panic")] {
        eventually("the next one fails", async || {
            let letters = letters(&fixture).await?;
            Ok(letters.into_iter().find(|(_, status, _)| *status == LetterStatus::New))
        })
        .await
        .map(|found| assert_eq!((found.0, found.2.as_str()), (offset, reason)))?;
        assert_eq!(fixture.effects().await?, ["bad 0", "e1"]);
        fixture.check_balance().await?;
        assert_eq!(discard(&fixture, LetterFilter::default()).await?.done, 1);
    }
    has_effects(&fixture, &["bad 0", "e1", "e4"]).await?;
    is_free(&fixture).await?;
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_redriven_letter_whose_cause_is_not_mended_waits_again() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&story()).await?;
    let running = fixture.start_strict(fixture.settings());
    fixture.passed(5).await?;
    for count in 1..=3 {
        assert_eq!(redrive(&fixture, LetterFilter::default()).await?.done, 1);
        let mut connection = fixture.database.connect().await?;
        let letter = eventually("it fails again", async || {
            let open = dead_letter::list_letters(&mut connection, &LetterFilter::default(), 10).await?;
            Ok(open.into_iter().next())
        })
        .await?;
        assert_eq!((letter.redrive_count, letter.attempts, letter.place.offset), (count, count + 1, 1));
    }
    let refused = redrive(&fixture, LetterFilter::default()).await?;
    assert_eq!((refused.done, refused.left["loop"]), (0, 1));
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "e3"]);
    fixture.remove().await
}

#[tokio::test]
async fn a_successor_knows_what_is_blocked_and_what_is_released() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut settings = fixture.settings();
    settings.kafka.batch_records_max = 1;
    fixture.produce(&story()).await?;
    let running = fixture.start_strict(settings.clone());
    fixture.passed(5).await?;
    running.kill().await;
    fixture.produce(&[event("a", 5, "e5")]).await?;
    let running = fixture.start_strict(settings.clone());
    running.effects.is_mended.store(true, Ordering::SeqCst);
    fixture.passed(6).await?;
    assert_eq!(fixture.effects().await?, ["e0", "e3"]);
    running.kill().await;
    // Nobody is there when the operator acts.
    redrive(&fixture, LetterFilter::default()).await?;
    let mended = fixture.start(); // Not strict any more: what waits is not forgotten.
    mended.effects.is_mended.store(true, Ordering::SeqCst);
    has_effects(&fixture, &["e0", "e3", "bad 1", "e2", "e4", "e5"]).await?;
    mended.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn events_that_come_twice_while_they_wait_have_one_effect() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut records = story();
    records.extend(story());
    let running = mended(&fixture, &records).await?;
    redrive(&fixture, LetterFilter::default()).await?;
    is_free(&fixture).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "e3", "bad 1", "e2", "e4"]);
    fixture.remove().await
}

#[tokio::test]
async fn offsets_that_are_set_back_leave_every_key_in_order() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &story()).await?;
    running.stop().await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::query("update inbox.progress set next_offset = 1, handled = handled - 2, first_offset = first_offset - 2, dead_lettered = 0")
        .execute(&mut connection)
        .await?;
    let running = fixture.start_strict(fixture.settings());
    fixture.passed(5).await?;
    // The first letter is met behind itself; the releaser finds out that it still fails.
    eventually("the key is as it was", async || {
        let open = statuses(&fixture).await?.into_iter().filter(|status| *status == LetterStatus::New);
        Ok((open.count() == 1).then_some(()))
    })
    .await?;
    running.effects.is_mended.store(true, Ordering::SeqCst);
    redrive(&fixture, LetterFilter::default()).await?;
    is_free(&fixture).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "e3", "bad 1", "e2", "e4"]);
    fixture.database.drop_database().await
}

#[tokio::test]
async fn too_much_that_waits_stops_the_partition() -> Result<()> {
    let many: Vec<Record> = (0..30).map(|sequence| event("a", sequence, &format!("e{sequence}"))).collect();
    let keys: Vec<Record> = (0..30).map(|key| event(&format!("k{key}"), key, "bad")).collect();
    for (first, records, expected) in [
        ("bad", many, "more than 10 letters wait behind a dead letter of one key"),
        ("e", keys, "more than 10 keys are blocked by dead letters"),
    ] {
        let fixture = Fixture::new(1).await?;
        let mut settings = fixture.settings();
        settings.kafka.batch_records_max = 4;
        (settings.blocked.letters_max, settings.blocked.keys_max) = (10, 10);
        fixture.produce(&[event("a", 99, first)]).await?;
        fixture.produce(&records).await?;
        let running = fixture.start_strict(settings);
        let reason = eventually("the partition is stopped", async || {
            Ok(running.status.partitions().into_iter().find_map(|partition| partition.stopped))
        })
        .await?;
        assert_eq!(reason, StopReason::Halted(expected.to_owned()));
        let letters = letters(&fixture).await?.len();
        assert!((11..=15).contains(&letters), "{letters} letters");
        running.stop().await?;
        fixture.remove().await?;
    }
    Ok(())
}
