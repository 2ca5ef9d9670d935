//! What operators are told.

use std::time::Duration;

use anyhow::Result;
use outbox::AppendLimits;
use outbox::overview::{self, Overview, Rows};
use sqlx::{Connection, Executor, PgConnection};
use testkit::eventually;

use crate::fixture::Fixture;

const PATIENCE: Duration = Duration::from_secs(10);

/// Rows that no position sees, without the help of an index.
async fn unpublished_by_definition(connection: &mut PgConnection) -> Result<Vec<i64>> {
    let query = "select e.id from outbox.event e join outbox.shard s using (shard)
                  where not pg_visible_in_snapshot(e.txid, s.position)
                    and not (s.window_end is not null and pg_visible_in_snapshot(e.txid, s.window_end)
                             and e.id <= s.window_last_id)
                  order by e.id";
    Ok(sqlx::query_scalar(query).fetch_all(connection).await?)
}

/// Shards at different positions, one amid a window, and a transaction that ran in all of them.
async fn mixed_positions(fixture: &Fixture, connection: &mut PgConnection) -> Result<()> {
    let mut late_writer = fixture.database.connect().await?;
    let mut late = late_writer.begin().await?;
    outbox::append(&mut late, &fixture.events(40, 40), &AppendLimits::default()).await?;
    for shard in 0_i16..16 {
        fixture.append(connection, &fixture.events(60, 40)).await?;
        sqlx::query("update outbox.shard set position = pg_current_snapshot() where shard = $1")
            .bind(shard)
            .execute(&mut *connection)
            .await?;
    }
    late.commit().await?;
    fixture.append(connection, &fixture.events(60, 40)).await?;
    connection
        .execute(
            "update outbox.shard
                set window_end = pg_current_snapshot(),
                    window_last_id = (select max(id) - 30 from outbox.event)
              where shard = 9",
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn view_and_overview_show_exactly_what_no_position_sees() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    mixed_positions(&fixture, &mut connection).await?;
    let expected = unpublished_by_definition(&mut connection).await?;
    let viewed: Vec<i64> = sqlx::query_scalar("select id from outbox.unpublished order by id")
        .fetch_all(&mut connection)
        .await?;
    assert_eq!(viewed, expected);
    let by_shard: Vec<(i16, i64)> = sqlx::query_as(
        "select s.shard, count(u.id) from outbox.shard s left join outbox.unpublished u using (shard)
          group by 1 order by 1",
    )
    .fetch_all(&mut connection)
    .await?;
    let overview = overview::load(&mut connection, PATIENCE).await?;
    let told: Vec<(i16, i64)> = overview
        .shards
        .iter()
        .map(|shard| Ok((shard.shard, i64::try_from(shard.behind.rows.count)?)))
        .collect::<Result<_>>()?;
    assert_eq!(told, by_shard);
    assert_eq!(overview.total().rows, Rows { count: u64::try_from(expected.len())?, is_estimate: false });
    fixture.remove().await
}

#[tokio::test]
async fn the_overview_names_its_source_owners_leases_and_ticks() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    fixture.append(&mut connection, &fixture.events(100, 50)).await?;
    outbox::ticker::tick_now(&mut connection).await?;
    let database: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&mut connection).await?;
    let before = overview::load(&mut connection, PATIENCE).await?;
    assert_eq!((before.source.database.as_str(), before.source.is_replica), (database.as_str(), false));
    assert!(before.source.server > 0);
    assert_eq!((before.shards.len(), before.segments.len(), before.ticks.count), (16, 4, 1));
    assert!(before.shards.iter().all(|shard| shard.owner.is_none() && shard.lease_remaining.is_none()));
    assert_eq!(before.total().rows.count, 100);
    assert!(before.total().oldest_age > Some(Duration::ZERO), "a tick was taken after the events");

    let relay = fixture.relay("first");
    let owned = |overview: &Overview| {
        overview.shards.iter().all(|shard| {
            shard.owner.as_deref() == Some("first") && shard.epoch == 1 && shard.lease_remaining.is_some()
        })
    };
    eventually("it is told who owns the shards, and that nothing waits", async || {
        let after = overview::load(&mut connection, PATIENCE).await?;
        Ok((owned(&after) && after.total().oldest_age.is_none()).then_some(()))
    })
    .await?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn counting_that_takes_too_long_is_cut_short_and_said_to_be() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut blocker = fixture.database.connect().await?;
    let mut observer = fixture.database.connect().await?;
    fixture.append(&mut connection, &fixture.events(100, 50)).await?;
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
    let mut block = blocker.begin().await?;
    block.execute("lock table outbox.event_0 in access exclusive mode").await?;
    let free_at_the_second_try = async {
        let mut first = None;
        eventually("it tries again", async || {
            let waiting: Option<String> = sqlx::query_scalar(
                "select xact_start::text from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'",
            )
            .bind(process)
            .fetch_optional(&mut observer)
            .await?;
            let Some(waiting) = waiting else { return Ok(None) };
            let first = first.get_or_insert_with(|| waiting.clone());
            Ok((*first != waiting).then_some(()))
        })
        .await?;
        block.rollback().await?;
        anyhow::Ok(())
    };
    let load = overview::load(&mut connection, Duration::from_secs(2));
    let (overview, freed) = tokio::join!(load, free_at_the_second_try);
    freed?;
    let overview = overview?;
    assert!(overview.is_cut_short);
    assert_eq!(overview.total().rows, Rows { count: 100, is_estimate: false });
    fixture.remove().await
}
