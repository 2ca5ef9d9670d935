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

#[tokio::test]
async fn one_event_is_stored_as_several_are() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut full = fixture.event("상품-7", "payload");
    full.aggregate_version = Some(3);
    full.headers = vec![("tenant".to_owned(), b"north".to_vec())];
    full.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let mut bare = fixture.event("1", "");
    bare.payload = None;
    for events in [vec![full.clone()], vec![bare.clone()], vec![full, bare]] {
        fixture.append(&mut connection, &events).await?;
    }
    let rows: Vec<String> = sqlx::query_scalar(
        "select (to_jsonb(e) - 'id' - 'txid' - 'segment')::text from outbox.event e order by id",
    )
    .fetch_all(&mut connection)
    .await?;
    let (alone, together) = rows.split_at(2);
    assert_eq!(alone, together);
    for column in ["payload", "headers", "traceparent", "aggregate_version"] {
        assert!(!alone[0].contains(&format!("\"{column}\": null")), "{column}: {}", alone[0]);
    }
    fixture.remove().await
}

#[tokio::test]
async fn a_session_learns_the_servers_history_again_after_a_rollback() -> Result<()> {
    const KNOWN: &str = "select coalesce(current_setting('outbox.timeline', true), '')";
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut tx = connection.begin().await?;
    outbox::append(&mut tx, &fixture.events(1, 1), &AppendLimits::default()).await?;
    assert_eq!(sqlx::query_scalar::<_, String>(KNOWN).fetch_one(&mut *tx).await?, "1");
    tx.rollback().await?;
    assert_eq!(sqlx::query_scalar::<_, String>(KNOWN).fetch_one(&mut connection).await?, "");
    // One event and several, learnt and known.
    for count in [1, 1, 3] {
        fixture.append(&mut connection, &fixture.events(count, 1)).await?;
    }
    assert_eq!(sqlx::query_scalar::<_, String>(KNOWN).fetch_one(&mut connection).await?, "1");
    let rows: i64 = sqlx::query_scalar(
        "select count(*) from outbox.event e, outbox.current_history() h
          where (e.system_identifier, e.timeline) = (h.system_identifier, h.timeline)",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(rows, 5);
    fixture.remove().await
}

/// Writers in other languages, who know the table and not this crate.
#[tokio::test]
async fn a_row_that_is_inserted_by_hand_has_the_servers_history() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    // The first learns it, the second knows it.
    for _ in 0..2 {
        let inserted: bool = sqlx::query_scalar(
            "insert into outbox.event (shard, event_id, event_type, aggregate_type, aggregate_id, topic, partition_key, occurred_at)
             values (0, gen_random_uuid(), 'ByHand', 'thing', '1', 'things', '1', now())
             returning (system_identifier, timeline) = (select h.system_identifier, h.timeline from outbox.current_history() h)",
        )
        .fetch_one(&mut connection)
        .await?;
        assert!(inserted);
    }
    fixture.remove().await
}
