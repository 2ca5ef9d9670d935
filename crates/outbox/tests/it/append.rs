//! What is appended, and what is not.

use anyhow::Result;
use outbox::{AppendError, AppendLimits, BadEvent};
use sqlx::Connection;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_bad_event_is_refused_inside_the_transaction_which_stays_usable() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut tx = connection.begin().await?;
    sqlx::query("create table business (id int)").execute(&mut *tx).await?;
    let good = fixture.event("1", "good");
    let mut bad = fixture.event("1", "bad");
    bad.partition_key = String::new();
    let refused = outbox::append(&mut tx, &[good.clone(), bad.clone()], &AppendLimits::default()).await;
    match refused {
        Err(AppendError::Refused { event_id, reason }) => {
            assert_eq!((event_id, reason), (bad.event_id, BadEvent::Empty("partition_key")));
        }
        other => anyhow::bail!("{other:?}"),
    }
    outbox::append(&mut tx, &[good], &AppendLimits::default()).await?;
    tx.commit().await?;
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 1);
    fixture.remove().await
}

#[tokio::test]
async fn an_event_over_the_size_limit_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut tx = connection.begin().await?;
    let event = fixture.event("1", &"x".repeat(900 * 1024));
    let refused = outbox::append(&mut tx, &[event], &AppendLimits::default()).await;
    assert!(
        matches!(refused, Err(AppendError::Refused { reason: BadEvent::TooLarge { .. }, .. })),
        "{refused:?}"
    );
    drop(tx);
    fixture.remove().await
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_leaves_no_event() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let relay = fixture.relay("a");
    let mut tx = connection.begin().await?;
    outbox::append(&mut tx, &fixture.events(10, 3), &AppendLimits::default()).await?;
    tx.rollback().await?;
    fixture.append(&mut connection, &[fixture.event("1", "last")]).await?;
    fixture.settled().await?;
    let found = fixture.found_at_least(1).await?;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].payload.as_deref(), Some("last"));
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn no_events_are_appended_without_a_statement() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    // A read-only transaction would refuse any insert.
    let mut tx = connection.begin().await?;
    sqlx::query("set transaction read only").execute(&mut *tx).await?;
    outbox::append(&mut tx, &[], &AppendLimits::default()).await?;
    tx.commit().await?;
    fixture.remove().await
}

#[tokio::test]
async fn ids_follow_the_order_of_the_slice() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let events = fixture.events(500, 500);
    fixture.append(&mut connection, &events).await?;
    let stored: Vec<uuid::Uuid> = sqlx::query_scalar("select event_id from outbox.event order by id")
        .fetch_all(&mut connection)
        .await?;
    assert_eq!(stored, events.iter().map(|event| event.event_id).collect::<Vec<_>>());
    fixture.remove().await
}
