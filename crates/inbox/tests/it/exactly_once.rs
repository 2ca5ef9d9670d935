//! An event has its effect once, however often its record comes.

use anyhow::Result;

use crate::fixture::{Fixture, Record, events, names};

#[tokio::test]
async fn events_have_their_effect_in_the_order_of_their_offsets() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&events(0, 0..5_000)).await?;
    let running = fixture.start();
    fixture.passed(5_000).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..5_000));
    assert_eq!(fixture.sums().await?, [5_000, 0, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_duplicate_in_one_batch_has_no_effect() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut records = events(0, 0..3);
    records.extend(events(0, 1..4));
    // All are there before the streamer comes, so they are one batch.
    fixture.produce(&records).await?;
    let running = fixture.start();
    fixture.passed(6).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..4));
    assert_eq!(fixture.sums().await?, [4, 2, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_duplicate_in_a_later_batch_or_another_partition_has_no_effect() -> Result<()> {
    let fixture = Fixture::new(2).await?;
    let running = fixture.start();
    fixture.produce(&events(0, 0..3)).await?;
    fixture.passed(3).await?;
    fixture.produce(&events(0, 2..5)).await?;
    fixture.passed(6).await?;
    fixture.produce(&events(1, 4..6)).await?;
    fixture.passed(8).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..6));
    assert_eq!(fixture.sums().await?, [6, 2, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn events_of_foreign_producers_are_known_by_their_id() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let ids: Vec<String> = (0_u128..4).map(|number| uuid::Uuid::from_u128(number).to_string()).collect();
    let record = |number: usize| {
        Record::plain(0, &format!("f{number}"))
            .with("ce_type", b"Counted")
            .with("ce_id", ids[number].as_bytes())
    };
    fixture.produce(&[record(0), record(1), record(0)]).await?;
    let running = fixture.start();
    fixture.passed(3).await?;
    fixture.produce(&[record(1), record(2), record(3), record(3)]).await?;
    fixture.passed(7).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["f0", "f1", "f2", "f3"]);
    assert_eq!(fixture.sums().await?, [4, 3, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn one_sequence_of_two_sources_is_two_events() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let other = Record::plain(0, "other")
        .with("ce_type", b"Counted")
        .with("ce_source", b"urn:outbox:promoted")
        .with("ce_sequence", b"0");
    fixture.produce(&[Record::event(0, 0, "e0"), other.clone(), other]).await?;
    let running = fixture.start();
    fixture.passed(3).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "other"]);
    fixture.remove().await
}

#[tokio::test]
async fn types_that_are_not_used_are_skipped_without_an_identity() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let other = Record::plain(0, "x").with("ce_type", b"Other");
    fixture.produce(&[other.clone(), Record::event(0, 7, "e7"), other]).await?;
    let running = fixture.start();
    fixture.passed(3).await?;
    running.stop().await?;
    assert_eq!(fixture.sums().await?, [1, 0, 0, 2]);
    fixture.remove().await
}
