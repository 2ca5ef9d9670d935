//! Dead letters that operators bring back: each counts once, whoever dies, presses twice or works beside another.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use inbox::dead_letter::{
    self, ActionError, ActionReport, Letter, LetterFilter, LetterStatus, Mandate, Obstacle, RedriveSettings,
    Selection,
};
use kafka_client::ProducerSettings;
use sqlx::Connection as _;
use testkit::eventually;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::{Fixture, Record, Running};

/// Poison events `range` of partition 0: good ones once the projection is mended.
pub(crate) fn poison(range: std::ops::Range<u64>) -> Vec<Record> {
    range.map(|sequence| Record::event(0, sequence, &poison_name(sequence))).collect()
}

fn poison_name(sequence: u64) -> String {
    format!("bad {sequence}")
}

pub(crate) fn poison_names(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(poison_name).collect()
}

pub(crate) fn mandate() -> Result<Mandate> {
    Ok(Mandate::new(Uuid::from_u128(1), "ada", "mended in 1.2")?)
}

pub(crate) fn settings(fixture: &Fixture) -> RedriveSettings {
    RedriveSettings::new(ProducerSettings::new(fixture.client()))
}

pub(crate) async fn redrive(fixture: &Fixture, selection: &Selection) -> Result<ActionReport> {
    redrive_with(fixture, &settings(fixture), selection).await
}

pub(crate) async fn redrive_with(
    fixture: &Fixture,
    settings: &RedriveSettings,
    selection: &Selection,
) -> Result<ActionReport> {
    let mut connection = fixture.database.connect().await?;
    let stop = CancellationToken::new();
    Ok(dead_letter::redrive(&mut connection, settings, selection, &mandate()?, &stop, |_| ()).await?)
}

/// Every letter in every state, oldest first.
pub(crate) async fn letters(fixture: &Fixture) -> Result<Vec<Letter>> {
    let filter = LetterFilter { statuses: LetterStatus::ALL.to_vec(), ..LetterFilter::default() };
    let mut connection = fixture.database.connect().await?;
    let mut letters = dead_letter::list_letters(&mut connection, &filter, 10_000).await?;
    letters.reverse();
    Ok(letters)
}

/// A streamer that has made dead letters of `poison`, mended since.
pub(crate) async fn mended(fixture: &Fixture, poison: &[Record]) -> Result<Running> {
    fixture.produce(poison).await?;
    let running = fixture.start_with(fixture.unguarded(), fixture.database.options());
    fixture.passed(i64::try_from(poison.len())?).await?;
    running.effects.is_mended.store(true, Ordering::SeqCst);
    Ok(running)
}

#[tokio::test]
async fn a_letter_whose_cause_is_mended_counts_once_however_often_it_is_redriven() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let records = [Record::event(0, 0, "e0"), Record::event(0, 1, "bad 1"), Record::event(0, 2, "e2")];
    let running = mended(&fixture, &records).await?;
    let first = redrive(&fixture, &Selection::default()).await?;
    let second = redrive(&fixture, &Selection::default()).await?;
    assert_eq!((first.done, second.done, second.matched), (1, 0, 0));
    fixture.passed(4).await?;
    assert_eq!(fixture.record_count(&fixture.topic).await?, 4);
    // The letter may also be sent again on purpose, for example when the record was lost with its topic.
    let again = LetterFilter { statuses: vec![LetterStatus::Redriven], ..LetterFilter::default() };
    assert_eq!(redrive(&fixture, &Selection { filter: again, limit: None }).await?.done, 1);
    fixture.passed(5).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "e2", "bad 1"]);
    assert_eq!(fixture.sums().await?, [3, 1, 1, 0]);
    let letter = &letters(&fixture).await?[0];
    let story = dead_letter::find_story(&mut fixture.database.connect().await?, letter.id)
        .await?
        .context("no story")?;
    assert_eq!(
        (story.is_handled, letter.status, letter.redrive_count),
        (Some(true), LetterStatus::Redriven, 2)
    );
    fixture.remove().await
}

#[tokio::test]
async fn what_fails_again_is_another_letter_of_the_same_event_until_the_loop_guard() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&poison(0..1)).await?;
    let running = fixture.start();
    fixture.passed(1).await?;
    let mut settings = settings(&fixture);
    settings.redrives_max = 2;
    for life in 2..=3 {
        let report = redrive_with(&fixture, &settings, &Selection::default()).await?;
        assert_eq!((report.matched, report.done), (1, 1));
        fixture.passed(life).await?;
    }
    let refused = redrive_with(&fixture, &settings, &Selection::default()).await?;
    let lives = letters(&fixture).await?;
    assert_eq!(refused.left_letters, [(lives[2].id, Obstacle::Loop { count: 2, limit: 2 })]);
    assert_eq!((refused.done, fixture.record_count(&fixture.topic).await?), (0, 3));
    let story = dead_letter::find_story(&mut fixture.database.connect().await?, lives[0].id)
        .await?
        .context("no story")?;
    assert_eq!((story.other_lives, story.is_handled), (lives[1..].to_vec(), Some(false)));
    assert_eq!(lives.iter().map(|letter| letter.redrive_count).collect::<Vec<_>>(), [1, 2, 2]);
    assert_eq!([lives[1].first_id, lives[2].first_id], [Some(lives[0].id); 2]);
    running.effects.is_mended.store(true, Ordering::SeqCst);
    settings.redrives_max = 3;
    assert_eq!(redrive_with(&fixture, &settings, &Selection::default()).await?.done, 1);
    fixture.passed(4).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["bad 0"]);
    assert_eq!(fixture.sums().await?, [1, 0, 3, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn ten_thousand_are_redriven_by_two_operators_at_once_in_order_and_none_twice() -> Result<()> {
    const COUNT: u64 = 10_000;
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &poison(0..COUNT)).await?;
    let mut settings = settings(&fixture);
    settings.chunk_letters_max = NonZeroU32::new(100).context("zero")?;
    let selection = Selection::default();
    let (one, other) = tokio::try_join!(
        redrive_with(&fixture, &settings, &selection),
        redrive_with(&fixture, &settings, &selection)
    )?;
    assert_eq!(one.done + other.done, COUNT);
    fixture.passed(i64::try_from(2 * COUNT)?).await?;
    running.stop().await?;
    assert_eq!(fixture.record_count(&fixture.topic).await?, i64::try_from(2 * COUNT)?);
    assert_eq!(fixture.effects().await?, poison_names(0..COUNT));
    let count = i64::try_from(COUNT)?;
    assert_eq!(fixture.sums().await?, [count, 0, count, 0]);
    let audited: (i64, i64) = sqlx::query_as(
        "select count(*), count(distinct dead_letter_id) from inbox.dead_letter_audit where action = 'redrive'",
    )
    .fetch_one(&mut fixture.database.connect().await?)
    .await?;
    assert_eq!(audited, (count, count));
    fixture.remove().await
}

#[tokio::test]
async fn a_redrive_that_dies_between_publishing_and_marking_is_done_again_and_counts_once() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &poison(0..10)).await?;
    // The audit cannot be written, so the redrive stands still after the acknowledgement.
    let mut connection = fixture.database.connect().await?;
    let mut blocking = connection.begin().await?;
    sqlx::query("lock table inbox.dead_letter_audit in access exclusive mode")
        .execute(&mut *blocking)
        .await?;
    let (options, settings) = (fixture.database.options(), settings(&fixture));
    let mandate = mandate()?;
    let dying = tokio::spawn(async move {
        let mut connection = dead_letter::connect(&options).await?;
        let (selection, stop) = (Selection::default(), CancellationToken::new());
        let redrive =
            dead_letter::redrive(&mut connection, &settings, &selection, &mandate, &stop, |_| ()).await;
        anyhow::Ok(redrive?)
    });
    eventually("records are published", async || {
        Ok((fixture.record_count(&fixture.topic).await? == 20).then_some(()))
    })
    .await?;
    dying.abort();
    assert!(dying.await.is_err_and(|error| error.is_cancelled()));
    blocking.rollback().await?;
    fixture.passed(20).await?;
    let again = redrive(&fixture, &Selection::default()).await?;
    assert_eq!((again.matched, again.done), (10, 10));
    fixture.passed(30).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, poison_names(0..10));
    assert_eq!(fixture.sums().await?, [10, 10, 10, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn letters_and_their_audit_change_together_or_not_at_all() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &poison(0..3)).await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::query("alter table inbox.dead_letter_audit add constraint no_ada check (actor <> 'ada')")
        .execute(&mut connection)
        .await?;
    assert!(redrive(&fixture, &Selection::default()).await.is_err());
    let selection = Selection::default();
    let stop = CancellationToken::new();
    let discarded = dead_letter::discard(&mut connection, &selection, &mandate()?, &stop, |_| ()).await;
    assert!(matches!(discarded, Err(ActionError::Database(_))));
    assert!(letters(&fixture).await?.iter().all(|letter| LetterStatus::OPEN.contains(&letter.status)));
    sqlx::query("alter table inbox.dead_letter_audit drop constraint no_ada")
        .execute(&mut connection)
        .await?;
    let all = letters(&fixture).await?;
    let first =
        Selection { filter: LetterFilter { ids: vec![all[0].id], ..LetterFilter::default() }, limit: None };
    dead_letter::discard(&mut connection, &first, &mandate()?, &stop, |_| ()).await?;
    redrive(&fixture, &selection).await?;
    for (letter, action) in all.iter().zip(["discard", "redrive", "redrive"]) {
        let story = dead_letter::find_story(&mut connection, letter.id).await?.context("no story")?;
        let [entry] = story.audit.as_slice() else { anyhow::bail!("{:?}", story.audit) };
        assert_eq!(
            (
                entry.actor.as_str(),
                entry.action.as_str(),
                entry.reason.as_str(),
                entry.status_before.as_str()
            ),
            ("ada", action, "mended in 1.2", "new")
        );
        assert_eq!((entry.operation_id, entry.dead_letter_id), (Uuid::from_u128(1), letter.id));
        assert_eq!(entry.redrive_count, i32::from(action == "redrive"));
    }
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_record_that_failed_in_two_groups_is_sent_once_for_both() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut other = fixture.settings();
    other.kafka.group = fixture.topics.name("other");
    let running = [fixture.start(), fixture.start_with(other, fixture.database.options())];
    fixture.produce(&poison(0..1)).await?;
    fixture.passed(2).await?;
    for running in &running {
        running.effects.is_mended.store(true, Ordering::SeqCst);
    }
    let report = redrive(&fixture, &Selection::default()).await?;
    assert_eq!((report.done, fixture.record_count(&fixture.topic).await?), (2, 2));
    fixture.passed(4).await?;
    for running in running {
        running.stop().await?;
    }
    assert_eq!(fixture.effects().await?, ["bad 0", "bad 0"]);
    fixture.remove().await
}
