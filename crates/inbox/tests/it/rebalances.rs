//! Partitions change hands, in order and out of order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use kafka_client::{Consumer, ConsumerEvent};
use testkit::eventually;

use crate::fixture::{Fixture, events, has_partitions, names};

#[tokio::test]
async fn a_duplicate_after_a_reassignment_has_no_effect() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&events(0, 0..5)).await?;
    let first = fixture.start();
    fixture.passed(5).await?;
    first.stop().await?;
    fixture.produce(&events(0, 3..8)).await?;
    let second = fixture.start();
    fixture.passed(10).await?;
    second.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..8));
    assert_eq!(fixture.sums().await?, [8, 2, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_streamer_that_dies_in_the_middle_leaves_nothing_half_done() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&events(0, 0..20)).await?;
    let first = fixture.start();
    fixture.passed(20).await?;
    first.effects.is_frozen.store(true, Ordering::SeqCst);
    let before = first.effects.applications.load(Ordering::SeqCst);
    fixture.produce(&events(0, 20..40)).await?;
    eventually("the next batch is being applied", async || {
        Ok((first.effects.applications.load(Ordering::SeqCst) > before).then_some(()))
    })
    .await?;
    first.kill().await;
    assert_eq!(fixture.effects().await?.len(), 20);
    let second = fixture.start();
    fixture.passed(40).await?;
    second.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..40));
    fixture.remove().await
}

#[tokio::test]
async fn two_members_share_the_partitions_while_events_flow() -> Result<()> {
    let fixture = Fixture::new(4).await?;
    let first = fixture.start();
    has_partitions(&first, 4).await?;
    let mut second = None;
    for round in 0..20_u64 {
        let records: Vec<_> = (0..4)
            .flat_map(|partition| {
                let begin = u64::try_from(partition).unwrap() * 100_000 + round * 50;
                events(partition, begin..begin + 50)
            })
            .collect();
        fixture.produce(&records).await?;
        fixture.check_balance().await?;
        if round == 5 {
            second = Some(fixture.start());
        }
        if let Some(second) = second.as_ref().filter(|_| round == 12) {
            has_partitions(second, 2).await?;
            has_partitions(&first, 2).await?;
        }
    }
    fixture.passed(4_000).await?;
    first.stop().await?;
    let Some(second) = second else { anyhow::bail!("no second member") };
    has_partitions(&second, 4).await?;
    second.stop().await?;
    let mut effects = fixture.effects().await?;
    effects.sort_unstable();
    effects.dedup();
    assert_eq!(effects.len(), 4_000);
    assert_eq!(fixture.sums().await?, [4_000, 0, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_batch_that_does_not_end_is_rolled_back_when_its_partition_is_taken_away() -> Result<()> {
    let fixture = Fixture::new(2).await?;
    let mut settings = fixture.settings();
    settings.revoke_grace = Duration::from_millis(200);
    let first = fixture.start_with(settings, fixture.database.options());
    has_partitions(&first, 2).await?;
    first.effects.is_frozen.store(true, Ordering::SeqCst);
    // Events of two blocks: those of one would wait for each other's row.
    fixture.produce(&[events(0, 0..5), events(1, 5_000..5_005)].concat()).await?;
    eventually("both batches are being applied", async || {
        Ok((first.effects.applications.load(Ordering::SeqCst) >= 2).then_some(()))
    })
    .await?;
    let second = fixture.start();
    has_partitions(&second, 1).await?;
    fixture.passed(5).await?;
    first.kill().await;
    fixture.passed(10).await?;
    second.stop().await?;
    let mut effects = fixture.effects().await?;
    effects.sort_unstable();
    assert_eq!(effects, [names(0..5), names(5_000..5_005)].concat());
    fixture.remove().await
}

#[tokio::test]
async fn a_zombie_that_holds_an_old_offset_is_refused_and_goes_on_where_the_owner_is() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let zombie = fixture.start();
    fixture.produce(&events(0, 0..5)).await?;
    fixture.passed(5).await?;
    // Another member has taken over, and passed five records more, while this one slept. Without remembered events,
    // only the fence is left to refuse.
    let mut connection = fixture.database.connect().await?;
    sqlx::query("begin").execute(&mut connection).await?;
    for effect in [
        "update inbox.progress set next_offset = 10, handled = 10",
        "insert into effect (name, topic, partition) select 'e' || n, 'events', 0 from generate_series(5, 9) n",
        "update inbox.event_handled set bits = set_byte(set_byte(bits, 0, 255), 1, 3)",
    ] {
        sqlx::query(effect).execute(&mut connection).await?;
    }
    fixture.produce(&events(0, 5..12)).await?;
    sqlx::query("commit").execute(&mut connection).await?;
    fixture.passed(12).await?;
    zombie.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..12));
    assert_eq!(fixture.sums().await?, [12, 0, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_streamer_whose_static_name_was_taken_goes_on_with_a_new_consumer() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut settings = fixture.settings();
    settings.kafka.instance = Some("pod-0".to_owned());
    let streamer = fixture.start_with(settings.clone(), fixture.database.options());
    fixture.produce(&events(0, 0..5)).await?;
    fixture.passed(5).await?;
    // The client library says the same of a member whose session ran out while the brokers were away.
    let (thief, mut told) = Consumer::start(settings.kafka)?;
    while !matches!(told.recv().await, Some(ConsumerEvent::Assigned { .. }) | None) {}
    has_partitions(&streamer, 0).await?;
    thief.close(Duration::from_secs(5)).await;
    has_partitions(&streamer, 1).await?;
    fixture.produce(&events(0, 5..10)).await?;
    fixture.passed(10).await?;
    streamer.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..10));
    fixture.remove().await
}
