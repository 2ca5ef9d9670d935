//! Leases and epochs.

use std::time::Duration;

use anyhow::Result;
use testkit::eventually;

use crate::fixture::{Fixture, without_resends};

#[tokio::test]
async fn a_position_under_a_stale_epoch_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut settings = fixture.settings("zombie");
    // No renewal tells it meanwhile.
    settings.lease = Duration::from_secs(3_600);
    let relay = fixture.relay_with(settings);
    fixture.append(&mut connection, &fixture.events(100, 50)).await?;
    fixture.settled().await?;
    // Another relay takes the shards while this one believes that it has them.
    sqlx::query(
        "update outbox.shard set owner = 'thief', epoch = epoch + 1, lease_until = clock_timestamp() + interval '1 hour'",
    )
    .execute(&mut connection)
    .await?;
    fixture.append(&mut connection, &fixture.events(100, 50)).await?;
    eventually("it sends what it read", async || Ok((relay.status.published() == 200).then_some(()))).await?;
    eventually("it has lost its shards", async || Ok((relay.status.shards() == 0).then_some(()))).await?;
    assert_eq!(fixture.backlog(&mut connection).await?.rows, 100, "the zombie moved no position");

    sqlx::query("update outbox.shard set lease_until = clock_timestamp()").execute(&mut connection).await?;
    fixture.settled().await?;
    let owners: Vec<String> =
        sqlx::query_scalar("select distinct owner from outbox.shard").fetch_all(&mut connection).await?;
    assert_eq!(owners, ["zombie"]);
    assert_eq!(without_resends(&fixture.found().await?)?.len(), 200);
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_living_lease_keeps_other_relays_away_until_it_runs_out() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let [first, second] = ["first", "second"].map(|owner| {
        let mut settings = fixture.settings(owner);
        settings.lease = Duration::from_secs(2);
        fixture.relay_with(settings)
    });
    let shares = || (first.status.shards(), second.status.shards());
    eventually("each owns its half", async || Ok((shares() == (8, 8)).then_some(()))).await?;
    // Both renew their leases several times meanwhile.
    let mut renewed = async || {
        let at: f64 = sqlx::query_scalar(
            "select extract(epoch from min(lease_until) - pg_postmaster_start_time())::float8 from outbox.shard",
        )
        .fetch_one(&mut connection)
        .await?;
        anyhow::Ok(at)
    };
    let begun = renewed().await?;
    eventually("leases are renewed for longer than they last", async || {
        Ok((renewed().await? > begun + 3.0).then_some(()))
    })
    .await?;
    assert_eq!(shares(), (8, 8));
    first.kill().await;
    eventually("the second takes over", async || Ok((second.status.shards() == 16).then_some(()))).await?;
    second.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn shards_that_become_free_are_claimed_and_caught_up() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::query(
        "update outbox.shard set owner = 'gone', lease_until = clock_timestamp() + interval '1 hour' where shard < 5",
    )
    .execute(&mut connection)
    .await?;
    let mut settings = fixture.settings("a");
    settings.lease = Duration::from_millis(600);
    let relay = fixture.relay_with(settings);
    for _ in 0..5 {
        fixture.append(&mut connection, &fixture.events(200, 100)).await?;
        outbox::ticker::tick_now(&mut connection).await?;
    }
    let left = async || {
        let rows: i64 = sqlx::query_scalar("select count(*) from outbox.unpublished where shard >= 5")
            .fetch_one(&mut connection)
            .await?;
        Ok((rows == 0).then_some(()))
    };
    eventually("its own shards are published", left).await?;
    let waiting = fixture.backlog(&mut connection).await?.rows;
    assert!(waiting > 0);
    sqlx::query("update outbox.shard set lease_until = clock_timestamp() where shard < 5")
        .execute(&mut connection)
        .await?;
    fixture.settled().await?;
    eventually("all shards stand at one position", async || {
        let positions: i64 = sqlx::query_scalar("select count(distinct position::text) from outbox.shard")
            .fetch_one(&mut connection)
            .await?;
        Ok((positions == 1 && relay.status.shards() == 16).then_some(()))
    })
    .await?;
    let found = fixture.found().await?;
    assert_eq!(found.len(), 1_000, "nothing is sent twice");
    relay.stop().await?;
    fixture.remove().await
}
