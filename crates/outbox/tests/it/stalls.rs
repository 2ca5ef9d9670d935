//! Transactions of others that stay open.

use anyhow::Result;
use outbox::AppendLimits;
use sqlx::{Connection, PgConnection};
use testkit::unique;

use crate::fixture::{Fixture, ensure_ordered};

/// Opens a transaction that has its id, an event of key `0`, and never ends by itself.
async fn prepare_transaction(fixture: &Fixture, name: &str) -> Result<()> {
    let mut connection = fixture.database.connect().await?;
    sqlx::query("begin").execute(&mut connection).await?;
    let event = fixture.event("0", "0");
    outbox::append(&mut connection, &[event], &AppendLimits::default()).await?;
    let prepare = format!("prepare transaction '{name}'");
    sqlx::query(sqlx::AssertSqlSafe(prepare)).execute(&mut connection).await?;
    Ok(())
}

async fn end_transaction(connection: &mut PgConnection, how: &str, name: &str) -> Result<()> {
    let end = format!("{how} prepared '{name}'");
    sqlx::query(sqlx::AssertSqlSafe(end)).execute(connection).await?;
    Ok(())
}

/// Everything else is published while the prepared transaction waits, and its own event after its commit.
async fn others_go_on(fixture: &Fixture, name: &str) -> Result<()> {
    let mut connection = fixture.database.connect().await?;
    // As a dump does: nothing that it could see may be cleaned up, and no index entry is ever known to be dead.
    let mut snapshot_holder = fixture.database.connect().await?;
    let mut snapshot = snapshot_holder.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *snapshot).await?;
    sqlx::query("select count(*) from outbox.event").execute(&mut *snapshot).await?;
    // Of another table, with a transaction id that is older than all that follow.
    let mut unrelated_writer = fixture.database.connect().await?;
    let mut unrelated = unrelated_writer.begin().await?;
    sqlx::query("create table unrelated (id bigint)").execute(&mut *unrelated).await?;

    let relay = fixture.relay("a");
    let others: Vec<_> = (1..=500).map(|number| fixture.event("1", &number.to_string())).collect();
    for chunk in others.chunks(10) {
        fixture.append(&mut connection, chunk).await?;
        outbox::ticker::tick_now(&mut connection).await?;
    }
    let found = fixture.found_at_least(500).await?;
    assert!(found.iter().all(|record| record.key == "1"));
    fixture.settled().await?;
    end_transaction(&mut connection, "commit", name).await?;
    let found = fixture.found_at_least(501).await?;
    assert_eq!(found.len(), 501, "nothing is sent twice");
    ensure_ordered(&found.iter().collect::<Vec<_>>())?;
    unrelated.commit().await?;
    snapshot.commit().await?;
    relay.stop().await
}

#[tokio::test]
async fn open_and_prepared_transactions_and_held_snapshots_delay_nothing_else() -> Result<()> {
    let fixture = Fixture::new().await?;
    let name = unique("stall");
    prepare_transaction(&fixture, &name).await?;
    let outcome = others_go_on(&fixture, &name).await;
    if outcome.is_err() {
        // It would outlive the test and keep the whole server from cleaning up.
        let _ = end_transaction(&mut fixture.database.connect().await?, "rollback", &name).await;
    }
    outcome?;
    fixture.remove().await
}
