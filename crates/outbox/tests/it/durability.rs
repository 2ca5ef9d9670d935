//! Writers that do not wait for the disk.

use anyhow::Result;
use outbox::AppendLimits;
use sqlx::Connection;
use testkit::eventually;

use crate::fixture::Fixture;

/// Without the guard, about every event is published before the server's own writer has flushed it.
const COMMITS: u64 = 100;

#[tokio::test]
async fn nothing_is_published_before_it_is_flushed() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut writer = fixture.database.connect().await?;
    let mut observer = fixture.database.connect().await?;
    sqlx::query("set synchronous_commit = off").execute(&mut writer).await?;
    let relay = fixture.relay("a");
    let mut early = 0;
    for number in 1..=COMMITS {
        let mut tx = writer.begin().await?;
        outbox::append(&mut tx, &[fixture.event("1", &number.to_string())], &AppendLimits::default()).await?;
        // The commit's record comes behind this place.
        let appended: String =
            sqlx::query_scalar("select pg_current_wal_insert_lsn()::text").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        eventually("it is published", async || Ok((relay.status.published() == number).then_some(())))
            .await?;
        let is_flushed: bool = sqlx::query_scalar("select pg_current_wal_flush_lsn() > $1::text::pg_lsn")
            .bind(appended)
            .fetch_one(&mut observer)
            .await?;
        early += u64::from(!is_flushed);
    }
    assert_eq!(early, 0, "of {COMMITS} events so many were published before they were flushed");
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_tick_is_flushed_when_it_is_visible_whatever_the_default_is() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::query("set synchronous_commit = off").execute(&mut connection).await?;
    for _ in 0..COMMITS {
        fixture.append(&mut connection, &fixture.events(1, 1)).await?;
        let appended: String =
            sqlx::query_scalar("select pg_current_wal_insert_lsn()::text").fetch_one(&mut connection).await?;
        assert!(outbox::ticker::tick_now(&mut connection).await?);
        let is_flushed: bool = sqlx::query_scalar("select pg_current_wal_flush_lsn() > $1::text::pg_lsn")
            .bind(appended)
            .fetch_one(&mut connection)
            .await?;
        assert!(is_flushed);
    }
    fixture.remove().await
}
