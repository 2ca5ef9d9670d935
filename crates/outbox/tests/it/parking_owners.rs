//! Parked keys while relays die, lose their shards or are followed by others, and while operators act.

use std::time::Duration;

use anyhow::{Context, Result};
use outbox::parked::{ParkedFilter, ParkedState, discard, unpark};
use testkit::eventually;

use crate::fixture::Fixture;
use crate::parking::{DECISION, all_is_published, key_of_events, numbers, parked, payloads};

#[tokio::test]
async fn a_relay_that_has_lost_its_shards_parks_nothing() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings("zombie");
    // No renewal tells it meanwhile.
    settings.lease = Duration::from_secs(3_600);
    // What it has found out is not written before the shards are gone.
    settings.position_interval = Duration::from_secs(3);
    let relay = fixture.relay_with(settings);
    eventually("it works", async || Ok((relay.status.shards() == 16).then_some(()))).await?;
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 10, &[5])).await?;
    eventually("it has found the refused record", async || {
        Ok((relay.status.parked_keys() == 1).then_some(()))
    })
    .await?;
    sqlx::query(
        "update outbox.shard set owner = 'thief', epoch = epoch + 1, lease_until = clock_timestamp() + interval '1 hour'",
    )
    .execute(&mut connection)
    .await?;
    eventually("it has lost its shards", async || Ok((relay.status.shards() == 0).then_some(()))).await?;
    assert!(parked(&mut connection).await?.is_empty(), "its rows were taken back");
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 10, "and its position");
    sqlx::query("update outbox.shard set lease_until = clock_timestamp()").execute(&mut connection).await?;
    fixture.settled().await?;
    assert_eq!(parked(&mut connection).await?.len(), 5);
    relay.stop().await?;
    fixture.remove().await
}

/// A future that is dropped when it has been polled so many times, wherever it stands.
async fn live_for<F: Future>(polls: usize, future: F) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        left = left.saturating_sub(1);
        if left == 0 { std::task::Poll::Ready(()) } else { future.as_mut().poll(context).map(|_| ()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_crashes_again_and_again_loses_and_overtakes_nothing() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let keys = ["1", "2", "3"];
    let mut next = 0;
    for round in 0..30 {
        for key in keys {
            let is_bad = next % 9 == 4 && key != "3";
            let payload = next.to_string();
            let event =
                if is_bad { fixture.large_event(key, &payload) } else { fixture.event(key, &payload) };
            fixture.append(&mut connection, &[event]).await?;
        }
        next += 1;
        if round % 4 == 1 {
            unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
        }
        // A session takes about so many polls until it has parked something.
        let status = std::sync::Arc::default();
        let stop = tokio_util::sync::CancellationToken::new();
        let (settings, options) = (fixture.settings("a"), fixture.database.options());
        live_for(5 + round * 11 % 120, outbox::relay::run(settings, options, None, stop, status)).await;
    }
    let relay = fixture.relay("a");
    fixture.settled().await?;
    fixture.set_topic_config("max.message.bytes", "1000000").await?;
    unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    all_is_published(&fixture, &mut connection).await?;
    let found = fixture.found().await?;
    let by_key = payloads(&found)?;
    for key in keys {
        assert_eq!(by_key[key], numbers(0..next), "key {key}");
    }
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_second_relay_goes_on_with_what_the_first_has_parked() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let with_short_lease = |owner: &str| {
        let mut settings = fixture.settings(owner);
        settings.lease = Duration::from_secs(1);
        fixture.relay_with(settings)
    };
    let first = with_short_lease("a");
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 20, &[5])).await?;
    fixture.settled().await?;
    let second = with_short_lease("b");
    first.kill().await;
    fixture.append(&mut connection, &[fixture.event("1", "20"), fixture.event("2", "0")]).await?;
    fixture.settled().await?;
    assert_eq!(
        payloads(&fixture.found().await?)?["1"],
        numbers(0..5),
        "the second knows that the key is blocked"
    );
    let rows = parked(&mut connection).await?;
    assert_eq!((rows.len(), rows[0].attempts), (16, 1), "nothing is tried again before an operator says so");
    fixture.set_topic_config("max.message.bytes", "1000000").await?;
    unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    all_is_published(&fixture, &mut connection).await?;
    assert_eq!(payloads(&fixture.found().await?)?["1"], numbers(0..21));
    second.stop().await?;
    fixture.remove().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_act_while_records_of_the_key_keep_coming() -> Result<()> {
    let fixture = std::sync::Arc::new(Fixture::with_small_records().await?);
    let mut connection = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    let writing = std::sync::Arc::clone(&fixture);
    let writer = tokio::spawn(async move {
        let mut connection = writing.database.connect().await?;
        for number in 0..2_000_usize {
            let payload = number.to_string();
            let is_bad = number % 400 == 50;
            let event =
                if is_bad { writing.large_event("1", &payload) } else { writing.event("1", &payload) };
            writing.append(&mut connection, &[event]).await?;
        }
        anyhow::Ok(())
    });
    let refused = ParkedFilter { state: Some(ParkedState::Refused), ..ParkedFilter::default() };
    let mut discarded = 0;
    while !writer.is_finished() {
        unpark(&mut connection, &refused, &DECISION).await?;
        discarded += discard(&mut connection, &refused, &DECISION).await?.records;
        tokio::task::yield_now().await;
    }
    writer.await??;
    eventually("the rest flows", async || {
        discarded += discard(&mut connection, &refused, &DECISION).await?.records;
        let backlog = fixture.backlog(&mut connection).await?.rows;
        Ok((discarded == 5 && backlog == 0 && parked(&mut connection).await?.is_empty()).then_some(()))
    })
    .await?;
    let expected: Vec<_> =
        (0..2_000).filter(|number| number % 400 != 50).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&fixture.found().await?)?["1"], expected);
    relay.stop().await?;
    std::sync::Arc::into_inner(fixture).context("still used")?.remove().await
}

#[tokio::test]
async fn a_relay_that_releases_without_owning_the_shard_deletes_nothing() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 10, &[5])).await?;
    fixture.settled().await?;
    relay.stop().await?;
    let left = parked(&mut connection).await?;
    unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    fixture.set_topic_config("max.message.bytes", "1000000").await?;
    // While the owner waits for the broker's word on a parked row, another relay takes the shards: told here by a trigger,
    // because no other place lies between the broker's word and the deletion.
    sqlx::raw_sql(
        "create function steal() returns trigger language plpgsql as $$
            begin
                update outbox.shard set owner = 'thief', epoch = epoch + 1, lease_until = 'infinity';
                return null;
            end $$;
         create trigger steal before delete on outbox.parked for each statement execute function steal();",
    )
    .execute(&mut connection)
    .await?;
    let mut settings = fixture.settings("a");
    settings.lease = Duration::from_secs(3_600);
    let relay = fixture.relay_with(settings);
    let lost = async || Ok(relay.status.failure().filter(|failure| failure.contains("still owned")));
    eventually("it has lost its shards", lost).await?;
    assert_eq!(parked(&mut connection).await?.len(), left.len(), "nothing is deleted");
    relay.kill().await;
    sqlx::raw_sql("drop trigger steal on outbox.parked").execute(&mut connection).await?;
    let relay = fixture.relay("a");
    all_is_published(&fixture, &mut connection).await?;
    assert_eq!(payloads(&fixture.found().await?)?["1"], numbers(0..10));
    relay.stop().await?;
    fixture.remove().await
}
