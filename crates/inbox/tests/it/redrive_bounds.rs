//! What a redrive leaves alone, where it ends, and who is not in its way.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use inbox::dead_letter::{
    self, ActionReport, DeadLetterPublisher, LetterFilter, LetterStatus, Obstacle, PublisherSettings,
    Selection,
};
use kafka_client::{AwaitedProducer, OutgoingRecord, ProducerSettings};
use sqlx::PgConnection;
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, Record};
use crate::redrives::{letters, mandate, mended, poison, poison_names, redrive, redrive_with, settings};

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_would_be_done() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &poison(0..5)).await?;
    running.stop().await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::query(r#"update inbox.dead_letter set redrive_count = 3 where "offset" = 2"#)
        .execute(&mut connection)
        .await?;
    let rows = "select array_agg(d::text order by id) from inbox.dead_letter d";
    let before: Vec<String> = sqlx::query_scalar(rows).fetch_one(&mut connection).await?;
    let selection = Selection { limit: Some(3), ..Selection::default() };
    let report = dead_letter::preview_redrive(&mut connection, &settings(&fixture), &selection).await?;
    assert_eq!((report.matched, report.done, report.left.get("loop")), (5, 3, Some(&1)));
    let report = dead_letter::preview_discard(&mut connection, &selection).await?;
    assert_eq!((report.matched, report.done), (5, 3));
    let after: Vec<String> = sqlx::query_scalar(rows).fetch_one(&mut connection).await?;
    assert_eq!(after, before);
    assert_eq!(fixture.record_count(&fixture.topic).await?, 5);
    fixture.remove().await
}

#[tokio::test]
async fn a_letter_whose_value_is_not_stored_whole_is_refused() -> Result<()> {
    const VALUE_BYTES: usize = 1_100_000;
    let fixture = Fixture::new(1).await?;
    let topic = fixture.topics.name("large");
    fixture.create_topic_with("large", 1, &[("max.message.bytes", "3000000")]).await?;
    let mut client = fixture.client();
    client.options.insert("message.max.bytes".to_owned(), "3000000".to_owned());
    let producer = AwaitedProducer::new(&ProducerSettings::new(client))?;
    for value in [[b"bad", vec![b'x'; VALUE_BYTES].as_slice()].concat(), b"bad".to_vec()] {
        let record = OutgoingRecord {
            topic: &topic,
            key: Some(b"k"),
            payload: Some(&value),
            headers: &[("ce_type", b"Counted"), ("ce_source", b"urn:x"), ("ce_sequence", b"1")],
            partition: None,
            timestamp: None,
        };
        producer.send_all(&[record]).await?;
    }
    let mut consumer = fixture.settings();
    consumer.kafka.topics = vec![topic.clone()];
    let running = fixture.start_with(consumer, fixture.database.options());
    eventually("both are dead letters", async || Ok((letters(&fixture).await?.len() == 2).then_some(())))
        .await?;
    running.stop().await?;
    let report = redrive(&fixture, &Selection::default()).await?;
    let all = letters(&fixture).await?;
    assert_eq!(report.left_letters, [(all[0].id, Obstacle::Incomplete("value".to_owned()))]);
    assert_eq!((report.done, fixture.record_count(&topic).await?), (1, 3));
    let expected = [(LetterStatus::New, Some(1_100_003)), (LetterStatus::Redriven, Some(3))];
    assert_eq!([0, 1].map(|index| (all[index].status, all[index].value_bytes)), expected);
    fixture.remove().await
}

#[tokio::test]
async fn a_letter_that_cannot_be_sent_stays_and_holds_up_no_other() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let topic = fixture.topics.name("narrow");
    fixture.create_topic_with("narrow", 1, &[("max.message.bytes", "2000")]).await?;
    // The second fits as it is; with the headers of a redrive it is too long.
    for (sequence, length) in [(0, 10), (1, 1_800), (2, 10), (3, 10)] {
        let name = format!("bad{}", "x".repeat(length));
        fixture.produce_to(&topic, &[Record::event(0, sequence, &name)]).await?;
    }
    let mut consumer = fixture.settings();
    consumer.kafka.topics = vec![topic.clone()];
    let running = fixture.start_with(consumer, fixture.database.options());
    eventually("all are dead letters", async || Ok((letters(&fixture).await?.len() == 4).then_some(())))
        .await?;
    running.effects.is_mended.store(true, Ordering::SeqCst);
    let mut connection = fixture.database.connect().await?;
    sqlx::query(r#"update inbox.dead_letter set topic = 'gone' where "offset" = 3"#)
        .execute(&mut connection)
        .await?;
    let report = redrive(&fixture, &Selection::default()).await?;
    assert_eq!(report.done, 2, "{report:?}");
    assert_eq!(
        report.left.iter().map(|(slug, count)| (*slug, *count)).collect::<Vec<_>>(),
        [("no_topic", 1), ("refused", 1)]
    );
    let by_offset = letters(&fixture).await?.into_iter().map(|letter| (letter.place.offset, letter.status));
    let mut by_offset: Vec<_> = by_offset.collect();
    by_offset.sort_unstable();
    let statuses: Vec<LetterStatus> = by_offset.into_iter().map(|(_, status)| status).collect();
    use LetterStatus::{New, Redriven};
    assert_eq!(statuses, [Redriven, New, Redriven, New]);
    eventually("both are handled", async || Ok((fixture.effects().await?.len() == 2).then_some(()))).await?;
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_redrive_ends_at_its_limit_or_when_it_is_asked_to_and_goes_on_later() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &poison(0..10)).await?;
    let mut settings = settings(&fixture);
    settings.chunk_letters_max = NonZeroU32::new(3).context("zero")?;
    let limited = Selection { limit: Some(4), ..Selection::default() };
    let report = redrive_with(&fixture, &settings, &limited).await?;
    assert_eq!((report.matched, report.done, report.is_stopped), (10, 4, false));
    let mut connection = fixture.database.connect().await?;
    let stop = CancellationToken::new();
    let all = Selection::default();
    let report =
        dead_letter::redrive(&mut connection, &settings, &all, &mandate()?, &stop, |_| stop.cancel()).await?;
    assert_eq!((report.matched, report.done, report.is_stopped), (6, 3, true));
    assert_eq!(redrive_with(&fixture, &settings, &all).await?.done, 3);
    fixture.passed(20).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, poison_names(0..10));
    assert_eq!(fixture.sums().await?, [10, 0, 10, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_discarded_letter_is_redriven_only_when_it_is_asked_for_by_its_state() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &poison(0..2)).await?;
    let mut connection = fixture.database.connect().await?;
    let stop = CancellationToken::new();
    let one = Selection { limit: Some(1), ..Selection::default() };
    for expected in [1, 1, 0] {
        let report = dead_letter::discard(&mut connection, &one, &mandate()?, &stop, |_| ()).await?;
        assert_eq!(report.done, expected);
    }
    assert_eq!(redrive(&fixture, &Selection::default()).await?.matched, 0);
    let discarded = LetterFilter { statuses: vec![LetterStatus::Discarded], ..LetterFilter::default() };
    let report = dead_letter::discard(
        &mut connection,
        &Selection { filter: discarded.clone(), limit: None },
        &mandate()?,
        &stop,
        |_| (),
    )
    .await?;
    assert_eq!((report.done, report.left["state"]), (0, 2));
    assert_eq!(redrive(&fixture, &Selection { filter: discarded, limit: Some(1) }).await?.done, 1);
    fixture.passed(3).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["bad 0"]);
    fixture.remove().await
}

#[tokio::test]
async fn a_publisher_that_waits_for_a_missing_topic_is_in_nobodys_way() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &poison(0..3)).await?;
    let mut publisher =
        PublisherSettings::new(vec![fixture.group()], ProducerSettings::new(fixture.client()));
    publisher.topic_suffix = "-nowhere".to_owned();
    let options = fixture.database.options().application_name("publisher");
    let stop = CancellationToken::new();
    let publishing = tokio::spawn(DeadLetterPublisher::new(publisher, options)?.run(stop.clone()));
    let mut connection = fixture.database.connect().await?;
    let waiting = async |connection: &mut PgConnection| -> Result<Option<String>> {
        let waiting = "select xact_start::text from pg_stat_activity
                        where application_name = 'publisher' and datname = current_database()
                          and state = 'idle in transaction' and query not ilike '%pg_try_advisory%'";
        Ok(sqlx::query_scalar(waiting).fetch_optional(connection).await?)
    };
    let before = eventually("the publisher waits", async || waiting(&mut connection).await).await?;
    assert_eq!(redrive(&fixture, &Selection::default()).await?.done, 3);
    assert_eq!(waiting(&mut connection).await?, Some(before), "the redrive waited for the publisher");
    stop.cancel();
    publishing.await?;
    fixture.passed(6).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, poison_names(0..3));
    fixture.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_does_not_chase_what_fails_again_meanwhile() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&poison(0..2)).await?;
    let running = fixture.start();
    fixture.passed(2).await?;
    let mut settings = settings(&fixture);
    settings.chunk_letters_max = NonZeroU32::new(1).context("zero")?;
    let mut connection = fixture.database.connect().await?;
    let (selection, stop) = (Selection::default(), CancellationToken::new());
    // After each chunk, the letter of the next life is waited for.
    let next_life = |report: &ActionReport| {
        let passed = fixture.passed(2 + i64::try_from(report.done).unwrap());
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(passed)).unwrap();
    };
    let report =
        dead_letter::redrive(&mut connection, &settings, &selection, &mandate()?, &stop, next_life).await?;
    assert_eq!((report.matched, report.done), (2, 2));
    running.stop().await?;
    assert_eq!(letters(&fixture).await?.len(), 4);
    fixture.remove().await
}
