//! An outbox that came by dump and restore.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use outbox::{AppendLimits, Rebase, RebaseError, RebaseMode, rebase};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::fixture::{Fixture, ensure_ordered};

/// Turns the outbox into what a restore of a dump of server 77 leaves: everything speaks of other transactions.
const RESTORE: &str = "
    create function shifted(snapshot pg_snapshot) returns pg_snapshot language sql strict as $$
        select concat_ws(':',
                         pg_snapshot_xmin(snapshot)::text::bigint + 1000000000,
                         pg_snapshot_xmax(snapshot)::text::bigint + 1000000000,
                         (select coalesce(string_agg((txid::text::bigint + 1000000000)::text, ',' order by txid), '')
                            from pg_snapshot_xip(snapshot) as running (txid)))::pg_snapshot
    $$;
    update outbox.event set system_identifier = 77, txid = (txid::text::bigint + 1000000000)::text::xid8;
    update outbox.tick set snapshot = shifted(snapshot);
    update outbox.shard
       set system_identifier = 77, position = shifted(position), window_end = shifted(window_end);";

async fn restore(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(RESTORE).execute(connection).await?;
    Ok(())
}

/// Publishes `count` events.
async fn publish(fixture: &Fixture, connection: &mut PgConnection, count: usize) -> Result<()> {
    let relay = fixture.relay("a");
    fixture.append(connection, &fixture.events(count, 5)).await?;
    fixture.settled().await?;
    relay.stop().await
}

/// Identity of each event that has not been removed.
async fn identities(connection: &mut PgConnection) -> Result<BTreeMap<Uuid, (i64, i64)>> {
    let rows: Vec<(Uuid, i64, i64)> =
        sqlx::query_as("select event_id, system_identifier, id from outbox.event")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(event, system, id)| (event, (system, id))).collect())
}

#[tokio::test]
async fn exactly_what_was_not_published_is_published_after_a_rebase_with_the_same_identity() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    publish(&fixture, &mut connection, 30).await?;
    let before: Vec<_> = (30..40).map(|number| fixture.event("0", &number.to_string())).collect();
    fixture.append(&mut connection, &before).await?;
    assert!(outbox::ticker::tick_now(&mut connection).await?);
    restore(&mut connection).await?;
    // The service runs on the new server already, where no relay does.
    let after: Vec<_> = (40..45).map(|number| fixture.event("0", &number.to_string())).collect();
    fixture.append(&mut connection, &after).await?;
    let known = identities(&mut connection).await?;

    let told = rebase(&mut connection, RebaseMode::DryRun).await?;
    assert_eq!((told.from_server, told.shards, told.kept, told.removed), (77, 16, 15, 30));
    assert!(told.ticks > 0);
    assert_eq!(identities(&mut connection).await?, known, "a dry run changes nothing");
    assert_eq!(rebase(&mut connection, RebaseMode::Apply).await?, told);
    let kept = identities(&mut connection).await?;
    let expected: Vec<_> = before.iter().chain(&after).map(|event| event.event_id).collect();
    assert_eq!(kept.len(), 15);
    for event_id in &expected {
        assert_eq!(kept.get(event_id), known.get(event_id), "{event_id} keeps its identity");
    }

    let relay = fixture.relay("a");
    fixture.settled().await?;
    let found = fixture.found().await?;
    assert_eq!(found.len(), 45, "nothing is lost or sent twice");
    ensure_ordered(&found.iter().collect::<Vec<_>>())?;
    relay.stop().await?;
    assert!(matches!(rebase(&mut connection, RebaseMode::Apply).await, Err(RebaseError::NotNeeded)));
    fixture.remove().await
}

#[tokio::test]
async fn a_window_that_was_partly_published_is_finished_after_a_rebase() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let begin: String =
        sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut connection).await?;
    publish(&fixture, &mut connection, 30).await?;
    sqlx::query(
        "update outbox.shard set position = $1::text::pg_snapshot, window_end = position,
                window_last_id = (select min(id) + 19 from outbox.event)",
    )
    .bind(begin)
    .execute(&mut connection)
    .await?;
    restore(&mut connection).await?;
    let Rebase { kept, removed, .. } = rebase(&mut connection, RebaseMode::Apply).await?;
    assert_eq!((kept, removed), (10, 20));
    let relay = fixture.relay("a");
    fixture.settled().await?;
    assert_eq!(fixture.found().await?.len(), 40);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_transaction_that_ran_during_the_rebase_is_published() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    restore(&mut connection).await?;
    let mut writer = fixture.database.connect().await?;
    let mut tx = writer.begin().await?;
    sqlx::query("create table early (id bigint)").execute(&mut *tx).await?;
    // One that began later has ended, so it does not suffice that the first one's id is high.
    sqlx::query("create table late (id bigint)").execute(&mut connection).await?;
    rebase(&mut connection, RebaseMode::Apply).await?;
    outbox::append(&mut tx, &fixture.events(1, 1), &AppendLimits::default()).await?;
    tx.commit().await?;
    let relay = fixture.relay("a");
    fixture.found_at_least(1).await?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn positions_ahead_of_their_own_server_keep_every_event() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    publish(&fixture, &mut connection, 30).await?;
    sqlx::query("update outbox.shard set position = '999999999999:999999999999:'")
        .execute(&mut connection)
        .await?;
    let told = rebase(&mut connection, RebaseMode::Apply).await?;
    assert_eq!((told.kept, told.removed), (30, 0), "it cannot be told which of them are published");
    fixture.remove().await
}

#[tokio::test]
async fn a_rebase_is_refused_while_a_lease_lives_or_the_sequence_is_behind() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    publish(&fixture, &mut connection, 5).await?;
    assert!(matches!(rebase(&mut connection, RebaseMode::DryRun).await, Err(RebaseError::NotNeeded)));
    restore(&mut connection).await?;
    let known = identities(&mut connection).await?;

    let lease = "update outbox.shard set owner = 'b', lease_until = clock_timestamp() + $1 where shard = 3";
    sqlx::query(lease)
        .bind(sqlx::postgres::types::PgInterval { months: 0, days: 1, microseconds: 0 })
        .execute(&mut connection)
        .await?;
    for mode in [RebaseMode::DryRun, RebaseMode::Apply] {
        let refused = rebase(&mut connection, mode).await.err().context("not refused")?;
        assert!(matches!(refused, RebaseError::Leased { ref owner, .. } if owner == "b"), "{refused}");
    }
    sqlx::query("update outbox.shard set lease_until = '-infinity'").execute(&mut connection).await?;
    sqlx::query("select setval('outbox.event_id', 2)").execute(&mut connection).await?;
    let refused = rebase(&mut connection, RebaseMode::Apply).await.err().context("not refused")?;
    assert!(matches!(refused, RebaseError::SequenceBehind { last: 2, .. }), "{refused}");
    assert_eq!(identities(&mut connection).await?, known, "nothing was changed");
    fixture.remove().await
}
