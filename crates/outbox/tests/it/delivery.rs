//! What a published record looks like, and that it is published.

use std::time::Duration;

use anyhow::Result;
use outbox::{AppendLimits, Nudge};
use sqlx::Connection;
use testkit::eventually;

use crate::fixture::{Fixture, RunningRelay, without_resends};

#[tokio::test]
async fn a_record_carries_key_payload_and_description() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut event = fixture.event("상품-7", r#"{"a":1}"#);
    event.headers = vec![("tenant".to_owned(), b"north".to_vec())];
    event.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let mut tombstone = fixture.event("상품-7", "");
    tombstone.payload = None;
    fixture.append(&mut connection, &[event.clone(), tombstone]).await?;
    let relay = fixture.relay("a");
    let found = fixture.found_at_least(2).await?;
    let (system, timeline): (i64, i32) =
        sqlx::query_as("select system_identifier, timeline from outbox.event limit 1")
            .fetch_one(&mut connection)
            .await?;
    let record = &found[0];
    assert_eq!((record.key.as_str(), record.payload.as_deref()), ("상품-7", Some(r#"{"a":1}"#)));
    let id = event.event_id.to_string();
    let source = format!("urn:outbox:{}:{timeline}", system.cast_unsigned());
    let trace = event.traceparent.unwrap_or_default();
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", id.as_str()),
        ("ce_type", "Happened"),
        ("ce_source", source.as_str()),
        ("ce_time", "1970-01-01T00:00:00.000000Z"),
        ("content-type", "application/json"),
        ("traceparent", trace.as_str()),
        ("tenant", "north"),
    ] {
        assert_eq!(record.header(name)?, value, "{name}");
    }
    assert!(record.sequence()? < found[1].sequence()?);
    assert_eq!(found[1].payload, None);
    relay.stop().await?;
    fixture.remove().await
}

/// The producer would wait for a fuller request for longer than anybody waits here.
#[tokio::test]
async fn events_linger_only_while_there_are_more_to_come() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut settings = fixture.settings("a");
    settings.producer.linger = Duration::from_secs(900);
    let windows = 3 * settings.batch_events_max;
    let relay = fixture.relay_with(settings);
    let mut connection = fixture.database.connect().await?;
    let mut count = 0;
    for events in [1, 1, windows, 1, windows + 1] {
        fixture.append(&mut connection, &fixture.events(events, 7)).await?;
        count += events;
        assert_eq!(fixture.found_at_least(count).await?.len(), count);
    }
    fixture.settled().await?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn transactions_that_commit_in_the_other_order_than_their_ids_are_both_published() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (mut first, mut second) = (fixture.database.connect().await?, fixture.database.connect().await?);
    let relay = fixture.relay("a");
    let mut early = first.begin().await?;
    outbox::append(&mut early, &[fixture.event("1", "early id")], &AppendLimits::default()).await?;
    fixture.append(&mut second, &[fixture.event("2", "late id")]).await?;
    let found = fixture.found_at_least(1).await?;
    assert_eq!(found[0].payload.as_deref(), Some("late id"));
    // Its window is behind the relay for good before the earlier id commits.
    fixture.settled().await?;
    early.commit().await?;
    let found = fixture.found_at_least(2).await?;
    assert_eq!(found.iter().filter(|record| record.payload.as_deref() == Some("early id")).count(), 1);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_transaction_that_stays_open_holds_up_nobody_and_arrives_after_its_commit() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (mut first, mut second) = (fixture.database.connect().await?, fixture.database.connect().await?);
    let mut foreign = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    // One with an event of its own, one that has nothing to do with the outbox.
    let mut open = first.begin().await?;
    outbox::append(&mut open, &[fixture.event("open", "open")], &AppendLimits::default()).await?;
    let mut unrelated = foreign.begin().await?;
    sqlx::query("create table unrelated (id int)").execute(&mut *unrelated).await?;
    for number in 0..200 {
        fixture.append(&mut second, &[fixture.event("busy", &number.to_string())]).await?;
    }
    let found = fixture.found_at_least(200).await?;
    assert!(found.iter().all(|record| record.key == "busy"));
    open.commit().await?;
    let found = fixture.found_at_least(201).await?;
    assert_eq!(found.iter().filter(|record| record.key == "open").count(), 1);
    unrelated.rollback().await?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_nudge_wakes_a_relay_that_polls_seldom() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings("a");
    // Without the nudge the event would wait longer than this test does.
    settings.busy_pause = std::time::Duration::from_millis(1);
    settings.idle_pause_max = std::time::Duration::from_secs(3_600);
    let nudge = Nudge::default();
    let relay = RunningRelay::start(settings, fixture.database.options(), Some(nudge.clone()));
    let status = &relay.status;
    eventually("the relay works", async || Ok(status.lag().map(|_| ()))).await?;
    // Past so many doublings the pause is longer than a test waits.
    eventually("the relay polls seldom", async || {
        let lag = status.lag().unwrap_or_default();
        Ok((lag > std::time::Duration::from_secs(4)).then_some(()))
    })
    .await?;
    fixture.append(&mut connection, &[fixture.event("1", "1")]).await?;
    nudge.notify();
    let published = eventually("it is published", async || Ok((status.published() == 1).then_some(()))).await;
    published?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn one_giant_transaction_flows_within_the_limits() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let events = fixture.events(30_000, 100);
    let mut tx = connection.begin().await?;
    for chunk in events.chunks(2_000) {
        outbox::append(&mut tx, chunk, &AppendLimits::default()).await?;
    }
    tx.commit().await?;
    let mut settings = fixture.settings("a");
    settings.batch_events_max = 100;
    settings.in_flight_events_max = 1_000;
    let relay = fixture.relay_with(settings);
    let mut in_flight_max = 0;
    eventually("all is published", async || {
        in_flight_max = in_flight_max.max(relay.status.in_flight());
        Ok((relay.status.published() == 30_000).then_some(()))
    })
    .await?;
    assert!(in_flight_max <= 1_000, "{in_flight_max}");
    let found = fixture.found_at_least(30_000).await?;
    assert_eq!(found.len(), 30_000);
    let records = without_resends(&found)?;
    crate::fixture::ensure_ordered(&records)?;
    relay.stop().await?;
    fixture.remove().await
}
