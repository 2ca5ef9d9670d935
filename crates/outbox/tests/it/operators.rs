//! What operators see of parked records, and what their actions do and leave behind.

use anyhow::{Context, Result};
use outbox::parked::{Decision, ParkedChange, ParkedError, ParkedFilter, ParkedState};
use outbox::parked::{count, discard, find, list, unpark};
use sqlx::PgConnection;

use crate::fixture::Fixture;

const DECISION: Decision<'_> = Decision { by: "ops", why: "ticket 7", dry_run: false };

/// Two keys with a refused record each, and no relay that would act on anything.
async fn parked_keys() -> Result<(Fixture, PgConnection)> {
    let fixture = Fixture::with_small_records().await?;
    let mut connection = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    for key in ["1", "2"] {
        let events = [fixture.event(key, "0"), fixture.large_event(key, "1"), fixture.event(key, "2")];
        fixture.append(&mut connection, &events).await?;
    }
    fixture.settled().await?;
    relay.stop().await?;
    Ok((fixture, connection))
}

fn of_key(key: &str) -> ParkedFilter {
    ParkedFilter { key: Some(key.to_owned()), ..ParkedFilter::default() }
}

async fn audit(connection: &mut PgConnection) -> Result<Vec<(String, String, String, String, String)>> {
    let lines = sqlx::query_as(
        "select done_by, action, why, partition_key, state from outbox.parked_audit order by id",
    );
    Ok(lines.fetch_all(connection).await?)
}

#[tokio::test]
async fn records_are_listed_by_what_they_are() -> Result<()> {
    let (fixture, mut connection) = parked_keys().await?;
    let all = list(&mut connection, &ParkedFilter::default(), 100).await?;
    let found: Vec<_> = all.iter().map(|record| (record.partition_key.as_str(), record.state)).collect();
    let (refused, waiting) = (ParkedState::Refused, ParkedState::Waiting);
    assert_eq!(found, [("1", refused), ("1", waiting), ("2", refused), ("2", waiting)]);
    for (filter, matches) in [
        (of_key("2"), 2),
        (ParkedFilter { topic: Some(fixture.topic.clone()), ..ParkedFilter::default() }, 4),
        (ParkedFilter { topic: Some("other".to_owned()), ..ParkedFilter::default() }, 0),
        (ParkedFilter { reason: Some("too_large".to_owned()), ..ParkedFilter::default() }, 2),
        (ParkedFilter { state: Some(ParkedState::Waiting), ..ParkedFilter::default() }, 2),
        (ParkedFilter { ids: vec![all[1].id, all[2].id, 0], ..ParkedFilter::default() }, 2),
        (ParkedFilter { ids: vec![all[1].id], ..of_key("2") }, 0),
    ] {
        assert_eq!(list(&mut connection, &filter, 100).await?.len(), matches, "{filter:?}");
    }
    assert_eq!(list(&mut connection, &ParkedFilter::default(), 3).await?, all[..3]);
    let counts = count(&mut connection).await?;
    assert_eq!(
        counts.iter().map(|count| (count.refused, count.waiting, count.keys)).collect::<Vec<_>>(),
        [(1, 1, 1); 2]
    );
    fixture.remove().await
}

#[tokio::test]
async fn a_record_is_shown_with_all_that_would_be_published() -> Result<()> {
    let (fixture, mut connection) = parked_keys().await?;
    let all = list(&mut connection, &ParkedFilter::default(), 100).await?;
    let shown = find(&mut connection, all[0].id).await?.context("it is there")?;
    assert_eq!(shown.record, all[0]);
    assert_eq!(shown.payload.as_deref(), Some(&b"1"[..]));
    let headers = shown.headers.context("they are readable")?;
    assert_eq!((headers[0].0.as_str(), headers[0].1.len()), ("fill", 5_000));
    assert!(shown.source.starts_with("urn:outbox:"));
    assert_eq!(shown.aggregate, ("thing".to_owned(), "1".to_owned(), Some(1)));
    assert_eq!(find(&mut connection, 0).await?, None);
    fixture.remove().await
}

#[tokio::test]
async fn an_action_is_audited_and_the_second_press_does_nothing() -> Result<()> {
    let (fixture, mut connection) = parked_keys().await?;
    let (one, none) = (ParkedChange { records: 1, keys: 1 }, ParkedChange { records: 0, keys: 0 });
    assert_eq!(unpark(&mut connection, &of_key("1"), &DECISION).await?, one, "only the refused one changes");
    assert_eq!(unpark(&mut connection, &of_key("1"), &DECISION).await?, none);
    let two = ParkedChange { records: 2, keys: 1 };
    assert_eq!(discard(&mut connection, &of_key("2"), &DECISION).await?, two);
    assert_eq!(discard(&mut connection, &of_key("2"), &DECISION).await?, none);
    let line = |action: &str, key: &str, state: &str| {
        let text = str::to_owned;
        (text("ops"), text(action), text("ticket 7"), text(key), text(state))
    };
    let expected =
        [line("unpark", "1", "refused"), line("discard", "2", "refused"), line("discard", "2", "waiting")];
    assert_eq!(audit(&mut connection).await?, expected);
    let left = list(&mut connection, &ParkedFilter::default(), 100).await?;
    assert!(left.iter().all(|row| row.partition_key == "1" && row.state == ParkedState::Waiting));
    fixture.remove().await
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_changes_nothing() -> Result<()> {
    let (fixture, mut connection) = parked_keys().await?;
    let before = list(&mut connection, &ParkedFilter::default(), 100).await?;
    let dry = Decision { dry_run: true, ..DECISION };
    let all = ParkedFilter::default();
    assert_eq!(unpark(&mut connection, &all, &dry).await?, ParkedChange { records: 2, keys: 2 });
    assert_eq!(discard(&mut connection, &all, &dry).await?, ParkedChange { records: 4, keys: 2 });
    assert_eq!(list(&mut connection, &all, 100).await?, before);
    assert!(audit(&mut connection).await?.is_empty());
    fixture.remove().await
}

#[tokio::test]
async fn an_action_without_a_name_or_a_reason_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    for decision in [Decision { by: " ", ..DECISION }, Decision { why: "", ..DECISION }] {
        let refused = discard(&mut connection, &ParkedFilter::default(), &decision).await;
        assert!(matches!(refused, Err(ParkedError::Empty(_))), "{refused:?}");
    }
    fixture.remove().await
}
