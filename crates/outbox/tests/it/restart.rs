//! Relays that end in the middle.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use outbox::AppendLimits;
use sqlx::Connection;
use testkit::eventually;

use crate::fixture::{Fixture, Found, ensure_ordered, without_resends};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_killed_before_its_position_is_written_sends_again_with_the_same_ids() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let events = fixture.events(20_000, 50);
    for chunk in events.chunks(1_000) {
        fixture.append(&mut connection, chunk).await?;
        outbox::ticker::tick_now(&mut connection).await?;
    }
    let mut settings = fixture.settings("a");
    // The broker's acknowledgements come long before any position is written.
    settings.position_interval = Duration::from_secs(3_600);
    let relay = fixture.relay_with(settings);
    eventually("some are published", async || Ok((relay.status.published() > 2_000).then_some(()))).await?;
    relay.kill().await;

    let relay = fixture.relay("a");
    fixture.settled().await?;
    let found = fixture.found().await?;
    assert!(found.len() >= 22_000, "{} records", found.len());
    let records = without_resends(&found)?;
    let ids: BTreeSet<&str> = records.iter().map(|record| record.header("ce_id")).collect::<Result<_>>()?;
    assert_eq!(
        ids,
        events
            .iter()
            .map(|event| event.event_id.to_string())
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect()
    );
    ensure_ordered(&records)?;
    let sequences: BTreeSet<(i64, &str)> = found
        .iter()
        .map(|record| Ok((record.sequence()?, record.header("ce_id")?)))
        .collect::<Result<_>>()?;
    assert_eq!(sequences.len(), 20_000, "an event keeps its sequence over every resend");
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_giant_window_goes_on_in_the_middle_after_a_crash() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut tx = connection.begin().await?;
    for chunk in fixture.events(40_000, 50).chunks(2_000) {
        outbox::append(&mut tx, chunk, &AppendLimits::default()).await?;
    }
    tx.commit().await?;
    let mut settings = fixture.settings("a");
    settings.batch_events_max = 100;
    settings.in_flight_events_max = 200;
    settings.position_interval = Duration::ZERO;
    let relay = fixture.relay_with(settings);
    eventually("the position is inside the window", async || {
        let last: Option<i64> = sqlx::query_scalar("select min(window_last_id) from outbox.shard")
            .fetch_one(&mut connection)
            .await?;
        Ok(last.filter(|last| *last > 1_000))
    })
    .await?;
    relay.kill().await;
    let last_id: Option<i64> =
        sqlx::query_scalar("select min(window_last_id) from outbox.shard").fetch_one(&mut connection).await?;
    let last_id = last_id.unwrap_or_default();
    assert!((1_000..40_000).contains(&last_id), "stopped in the middle, at {last_id}");

    let relay = fixture.relay("a");
    fixture.settled().await?;
    let found = fixture.found().await?;
    let again = without_resends(&found)?.len();
    assert_eq!(again, 40_000);
    let sent_once = found.iter().map(Found::sequence).collect::<Result<Vec<_>>>()?;
    let behind = sent_once.iter().filter(|sequence| **sequence <= last_id).count();
    assert_eq!(i64::try_from(behind)?, last_id, "what lies behind the stored place is not sent again");
    ensure_ordered(&without_resends(&found)?)?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_relay_that_is_asked_to_stop_writes_its_position_and_gives_the_shards_back() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings("a");
    settings.position_interval = Duration::from_secs(3_600);
    let relay = fixture.relay_with(settings);
    fixture.append(&mut connection, &fixture.events(500, 50)).await?;
    eventually("all is published", async || Ok((relay.status.published() == 500).then_some(()))).await?;
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 500);
    relay.stop().await?;
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 0);
    let held: i64 =
        sqlx::query_scalar("select count(*) from outbox.shard where lease_until > clock_timestamp()")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(held, 0);
    // Another owner need not wait for the lease.
    let other = fixture.relay("b");
    eventually("the other works", async || Ok((other.status.shards() == 16).then_some(()))).await?;
    other.stop().await?;
    assert_eq!(fixture.found().await?.len(), 500);
    fixture.remove().await
}
