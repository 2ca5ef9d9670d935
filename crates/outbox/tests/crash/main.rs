//! Relays that die at named points while records are parked and released. A binary of its own, because failure points are
//! global to a process.
#![cfg(all(test, feature = "failpoints"))]

#[expect(dead_code, reason = "the other binary's tests use the rest")]
#[path = "../it/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use outbox::parked::{Decision, ParkedFilter, list, unpark};
use sqlx::PgConnection;
use testkit::eventually;

use fixture::{Fixture, RunningRelay, without_resends};

const KEYS: [&str; 4] = ["1", "2", "3", "4"];
const DECISION: Decision<'_> = Decision { by: "tester", why: "test", dry_run: false };
/// Where a relay may die on the way of a refused record into `outbox.parked` and out again.
const POINTS: [&str; 8] = [
    "relay.before_publish",
    "relay.after_ack_before_position",
    "relay.before_parked",
    "relay.after_parked",
    "relay.after_position",
    "relay.before_release",
    "relay.before_released",
    "relay.after_released",
];

/// Appends the next events of every key, one of which is refused while records must be small.
async fn append(fixture: &Fixture, connection: &mut PgConnection, next: &mut usize) -> Result<()> {
    for _ in 0..5 {
        let events = KEYS.map(|key| {
            let payload = next.to_string();
            if *next % 10 == 3 && key == "1" {
                fixture.large_event(key, &payload)
            } else {
                fixture.event(key, &payload)
            }
        });
        fixture.append(connection, &events).await?;
        *next += 1;
    }
    Ok(())
}

async fn parked(connection: &mut PgConnection) -> Result<usize> {
    Ok(list(connection, &ParkedFilter::default(), 1_000_000).await?.len())
}

/// Ends the relay where `point` is next passed, as a crash does, and starts another.
async fn die_at(
    point: &str,
    fixture: &Fixture,
    connection: &mut PgConnection,
    next: &mut usize,
) -> Result<()> {
    let has_died = Arc::new(AtomicBool::new(false));
    let dies = Arc::clone(&has_died);
    fail::cfg_callback(point, move || {
        if !dies.swap(true, Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("crash"));
        }
    })
    .map_err(anyhow::Error::msg)?;
    let relay = fixture.relay("a");
    append(fixture, connection, next).await?;
    eventually(&format!("{point} is passed"), async || {
        // What is parked is released and refused again.
        unpark(connection, &ParkedFilter::default(), &DECISION).await?;
        Ok(has_died.load(Ordering::SeqCst).then_some(()))
    })
    .await?;
    relay.kill().await;
    fail::remove(point);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_dies_at_any_point_of_parking_loses_and_overtakes_nothing() -> Result<()> {
    let _scenario = fail::FailScenario::setup();
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let mut next = 0;
    for point in POINTS {
        die_at(point, &fixture, &mut connection, &mut next).await?;
    }
    let relay: RunningRelay = fixture.relay("a");
    fixture.settled().await?;
    ensure!(parked(&mut connection).await? > 0, "the last refused record is parked");
    fixture.set_topic_config("max.message.bytes", "1000000").await?;
    unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    eventually("nothing is parked", async || Ok((parked(&mut connection).await? == 0).then_some(()))).await?;
    fixture.settled().await?;
    let found = fixture.found().await?;
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for record in without_resends(&found)? {
        let number = record.payload.as_deref().context("no payload")?.parse()?;
        by_key.entry(&record.key).or_default().push(number);
    }
    for key in KEYS {
        assert_eq!(by_key.remove(key).unwrap_or_default(), (0..next).collect::<Vec<_>>(), "key {key}");
    }
    relay.stop().await?;
    fixture.remove().await
}
