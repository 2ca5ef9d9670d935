//! Records that the broker refuses for good: their key is parked, all else flows, nothing is lost or overtaken.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use outbox::NewEvent;
use outbox::parked::{Decision, ParkedFilter, ParkedRecord, ParkedState, discard, list, unpark};
use sqlx::PgConnection;
use testkit::eventually;

use crate::fixture::{Fixture, Found, ensure_ordered, without_resends};

pub(crate) const DECISION: Decision<'_> = Decision { by: "tester", why: "test", dry_run: false };

pub(crate) async fn parked(connection: &mut PgConnection) -> Result<Vec<ParkedRecord>> {
    Ok(list(connection, &ParkedFilter::default(), 1_000_000).await?)
}

fn states(parked: &[ParkedRecord]) -> Vec<ParkedState> {
    parked.iter().map(|record| record.state).collect()
}

/// Payloads by key, in the order of the topic, resends left out.
pub(crate) fn payloads(found: &[Found]) -> Result<BTreeMap<&str, Vec<&str>>> {
    let mut payloads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in without_resends(found)? {
        payloads.entry(&record.key).or_default().push(record.payload.as_deref().context("no payload")?);
    }
    Ok(payloads)
}

pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// `count` events of a key; those in `large` are refused.
pub(crate) fn key_of_events(fixture: &Fixture, key: &str, count: usize, large: &[usize]) -> Vec<NewEvent> {
    (0..count)
        .map(|number| {
            let payload = number.to_string();
            if large.contains(&number) {
                fixture.large_event(key, &payload)
            } else {
                fixture.event(key, &payload)
            }
        })
        .collect()
}

/// Nothing is left to publish and nothing is left parked.
pub(crate) async fn all_is_published(fixture: &Fixture, connection: &mut PgConnection) -> Result<()> {
    fixture.settled().await?;
    eventually("nothing is parked", async || Ok(parked(connection).await?.is_empty().then_some(()))).await
}

#[tokio::test]
async fn a_refused_record_parks_its_key_and_all_else_flows() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    let mut events = Vec::new();
    for number in 0..100 {
        for key in ["1", "2", "3", "4"] {
            let payload = number.to_string();
            let is_bad = key == "1" && number == 30;
            events.push(if is_bad {
                fixture.large_event(key, &payload)
            } else {
                fixture.event(key, &payload)
            });
        }
    }
    fixture.append(&mut connection, &events).await?;
    fixture.settled().await?;
    // Behind what is parked already, in a transaction of its own.
    fixture.append(&mut connection, &[fixture.event("1", "100"), fixture.event("2", "100")]).await?;
    fixture.settled().await?;

    let found = fixture.found().await?;
    let mut by_key = payloads(&found)?;
    assert_eq!(by_key.remove("1").unwrap_or_default(), numbers(0..30));
    assert_eq!(by_key.remove("2").unwrap_or_default(), numbers(0..101));
    for key in ["3", "4"] {
        assert_eq!(by_key.remove(key).unwrap_or_default(), numbers(0..100), "{key}");
    }
    let parked = parked(&mut connection).await?;
    assert_eq!(parked.len(), 71);
    assert_eq!((parked[0].state, parked[0].reason.as_deref()), (ParkedState::Refused, Some("too_large")));
    assert_eq!(parked[0].attempts, 1);
    assert!(states(&parked)[1..].iter().all(|state| *state == ParkedState::Waiting));
    assert!(parked.iter().all(|record| record.partition_key == "1"));
    assert_eq!(relay.status.parked_keys(), 1);
    assert_eq!(relay.status.failure(), None);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_is_overtaken_by_no_other_of_its_key() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let events = key_of_events(&fixture, "1", 200, &[100, 150]);
    fixture.append(&mut connection, &events).await?;
    let relay = fixture.relay("a");
    fixture.settled().await?;
    assert_eq!(payloads(&fixture.found().await?)?["1"], numbers(0..100));
    let rows = parked(&mut connection).await?;
    // The second large one was never sent.
    assert_eq!(rows.iter().filter(|record| record.state == ParkedState::Refused).count(), 1);

    fixture.set_topic_config("max.message.bytes", "1000000").await?;
    let change = unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    assert_eq!((change.records, change.keys), (1, 1));
    all_is_published(&fixture, &mut connection).await?;
    fixture.append(&mut connection, &[fixture.event("1", "200")]).await?;
    fixture.settled().await?;
    let found = fixture.found().await?;
    assert_eq!(payloads(&found)?["1"], numbers(0..201));
    let records = without_resends(&found)?;
    for (event, record) in events.iter().zip(&records) {
        assert_eq!(record.header("ce_id")?, event.event_id.to_string(), "its identity");
        assert_eq!(record.headers.contains_key("fill"), !event.headers.is_empty());
    }
    let sources: std::collections::BTreeSet<&str> =
        records.iter().map(|record| record.header("ce_source")).collect::<Result<_>>()?;
    assert_eq!(sources.len(), 1);
    let sequences = records.iter().map(|record| record.sequence()).collect::<Result<Vec<_>>>()?;
    assert!(sequences.is_sorted());
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn discarding_the_refused_record_lets_the_others_of_its_key_flow() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 50, &[10])).await?;
    fixture.settled().await?;
    let refused = ParkedFilter { state: Some(ParkedState::Refused), ..ParkedFilter::default() };
    let change = discard(&mut connection, &refused, &DECISION).await?;
    assert_eq!((change.records, change.keys), (1, 1));
    all_is_published(&fixture, &mut connection).await?;
    let expected: Vec<_> = numbers(0..50).into_iter().filter(|number| number != "10").collect();
    assert_eq!(payloads(&fixture.found().await?)?["1"], expected);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn an_unparked_record_that_is_refused_again_holds_up_its_key_again() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 50, &[10, 20])).await?;
    fixture.append(&mut connection, &key_of_events(&fixture, "2", 50, &[40])).await?;
    fixture.settled().await?;
    unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    let attempts = async || {
        let rows = parked(&mut connection).await?;
        let refused: Vec<_> = rows.into_iter().filter(|row| row.state == ParkedState::Refused).collect();
        let again = refused.len() == 2 && refused.iter().all(|row| row.attempts == 2);
        Ok(again.then_some(()))
    };
    eventually("both are refused again", attempts).await?;
    let by_key = fixture.found().await?;
    let by_key = payloads(&by_key)?;
    assert_eq!(
        (&by_key["1"], &by_key["2"]),
        (
            &numbers(0..10).iter().map(String::as_str).collect(),
            &numbers(0..40).iter().map(String::as_str).collect()
        )
    );
    // The first goes, the key flows up to the next one that is refused.
    let first = parked(&mut connection).await?[0].id;
    discard(&mut connection, &ParkedFilter { ids: vec![first], ..ParkedFilter::default() }, &DECISION)
        .await?;
    let next = async || {
        let rows = parked(&mut connection).await?;
        Ok((rows[0].state == ParkedState::Refused && rows[0].id != first).then_some(()))
    };
    eventually("the next one is refused", next).await?;
    let expected: Vec<_> = numbers(0..20).into_iter().filter(|number| number != "10").collect();
    assert_eq!(payloads(&fixture.found().await?)?["1"], expected);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn requests_that_are_too_large_only_as_a_whole_park_nothing() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    fixture.append(&mut connection, &fixture.events(2_000, 20)).await?;
    let relay = fixture.relay("a");
    fixture.settled().await?;
    assert!(parked(&mut connection).await?.is_empty());
    let found = fixture.found().await?;
    let records = without_resends(&found)?;
    assert_eq!(records.len(), 2_000);
    ensure_ordered(&records)?;
    // Each session that fails over it makes requests smaller, until none fails.
    let mut epoch = 0;
    for round in 0..10 {
        fixture.append(&mut connection, &fixture.events(2_000, 20)).await?;
        fixture.settled().await?;
        let epochs = sqlx::query_scalar("select max(epoch) from outbox.shard").fetch_one(&mut connection);
        let reached: i64 = epochs.await?;
        if reached == epoch {
            break;
        }
        assert!(round < 9, "requests are still too large");
        epoch = reached;
    }
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_record_that_the_client_itself_refuses_is_parked() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings("a");
    settings.producer.client.options.insert("message.max.bytes".to_owned(), "2000".to_owned());
    let relay = fixture.relay_with(settings);
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 20, &[5])).await?;
    fixture.append(&mut connection, &key_of_events(&fixture, "2", 20, &[])).await?;
    fixture.settled().await?;
    let found = fixture.found().await?;
    let by_key = payloads(&found)?;
    assert_eq!((by_key["1"].len(), by_key["2"].len()), (5, 20));
    assert_eq!(parked(&mut connection).await?.len(), 15);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_row_that_is_no_record_is_parked() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 20, &[])).await?;
    fixture.append(&mut connection, &key_of_events(&fixture, "2", 20, &[])).await?;
    sqlx::query("update outbox.event set headers = '\\x00' where partition_key = '1' and payload = '5'")
        .execute(&mut connection)
        .await?;
    let relay = fixture.relay("a");
    fixture.settled().await?;
    let found = fixture.found().await?;
    let by_key = payloads(&found)?;
    assert_eq!((by_key["1"].len(), by_key["2"].len()), (5, 20));
    assert_eq!(parked(&mut connection).await?[0].reason.as_deref(), Some("unreadable"));
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn no_more_keys_are_parked_than_are_allowed() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings("a");
    settings.parked_keys_max = 1;
    let relay = fixture.relay_with(settings);
    for key in ["1", "2"] {
        fixture.append(&mut connection, &key_of_events(&fixture, key, 3, &[1])).await?;
        outbox::ticker::tick_now(&mut connection).await?;
    }
    let full = async || Ok(relay.status.failure().filter(|failure| failure.contains("1 keys are parked")));
    eventually("the relay waits instead of parking more", full).await?;
    assert!(fixture.backlog(&mut connection).await?.rows > 0, "the rows stay");
    let rows = parked(&mut connection).await?;
    assert!(rows.iter().all(|row| row.partition_key == rows[0].partition_key), "{rows:?}");
    discard(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    fixture.settled().await?;
    let after = parked(&mut connection).await?;
    assert!(after.iter().all(|row| row.partition_key != rows[0].partition_key), "{after:?}");
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_blocked_key_with_many_records_is_parked_within_the_limits() -> Result<()> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings("a");
    settings.batch_events_max = 100;
    settings.in_flight_events_max = 300;
    let relay = fixture.relay_with(settings);
    fixture.append(&mut connection, &key_of_events(&fixture, "1", 5_000, &[0])).await?;
    fixture.append(&mut connection, &key_of_events(&fixture, "2", 5_000, &[])).await?;
    fixture.settled().await?;
    assert_eq!(parked(&mut connection).await?.len(), 5_000);
    assert_eq!(payloads(&fixture.found().await?)?["2"], numbers(0..5_000));
    fixture.set_topic_config("max.message.bytes", "1000000").await?;
    // More than one page.
    unpark(&mut connection, &ParkedFilter::default(), &DECISION).await?;
    all_is_published(&fixture, &mut connection).await?;
    assert_eq!(payloads(&fixture.found().await?)?["1"], numbers(0..5_000));
    relay.stop().await?;
    fixture.remove().await
}
