//! Truncation of segments: what is published goes, nothing else does, and nobody waits for long.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use outbox::retention::{self, Kept};
use outbox::{AppendLimits, RetentionSettings, RetentionStatus};
use sqlx::{Connection, Executor, PgConnection};
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, ensure_ordered};

pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// A segment whose hour ended an hour ago or two.
pub(crate) async fn due_segment(connection: &mut PgConnection) -> Result<i16> {
    let query = "select ((extract(epoch from statement_timestamp())::bigint / 3600 + 2) % 4)::smallint";
    Ok(sqlx::query_scalar(query).fetch_one(connection).await?)
}

/// Appends in a transaction that stays open, as a writer does whose hour is that of `segment`.
pub(crate) async fn append_into(
    fixture: &Fixture,
    tx: &mut PgConnection,
    segment: i16,
    key: &str,
) -> Result<()> {
    let event = fixture.event(key, "1");
    outbox::append(tx, std::slice::from_ref(&event), &AppendLimits::default()).await?;
    // The row moves to the other partition; its transaction and its id stay.
    sqlx::query("update outbox.event set segment = $1 where event_id = $2")
        .bind(segment)
        .bind(event.event_id)
        .execute(tx)
        .await?;
    Ok(())
}

/// Commits events into `segment`.
pub(crate) async fn fill(
    fixture: &Fixture,
    connection: &mut PgConnection,
    segment: i16,
    keys: usize,
) -> Result<()> {
    let mut tx = connection.begin().await?;
    for key in 0..keys {
        append_into(fixture, &mut tx, segment, &key.to_string()).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Moves every position as if all that is committed were published.
pub(crate) async fn publish_all(connection: &mut PgConnection) -> Result<()> {
    connection.execute("update outbox.shard set position = pg_current_snapshot()").await?;
    Ok(())
}

pub(crate) async fn rows(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from outbox.event").fetch_one(connection).await?)
}

pub(crate) fn start(
    fixture: &Fixture,
    settings: RetentionSettings,
) -> (Arc<RetentionStatus>, impl Future<Output = Result<()>>) {
    let status = Arc::new(RetentionStatus::default());
    let stop = CancellationToken::new();
    let run = retention::run(settings, fixture.database.options(), stop.clone(), Arc::clone(&status));
    let task = tokio::spawn(run);
    (status, async move {
        stop.cancel();
        Ok(task.await??)
    })
}

#[tokio::test]
async fn a_published_segment_is_truncated_when_its_hour_is_over_and_its_space_is_given_back() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let segment = due_segment(&mut connection).await?;
    let payload = "x".repeat(1_000);
    let events: Vec<_> = (0..4_000).map(|key| fixture.event(&key.to_string(), &payload)).collect();
    fixture.append(&mut connection, &events).await?;
    sqlx::query("update outbox.event set segment = $1").bind(segment).execute(&mut connection).await?;
    fixture.append(&mut connection, &fixture.events(50, 10)).await?;
    let sizes = "select pg_database_size(current_database()), pg_total_relation_size(format('outbox.event_%s', $1)::regclass)";
    let (database_before, segment_before): (i64, i64) =
        sqlx::query_as(sizes).bind(segment).fetch_one(&mut connection).await?;

    let settings = RetentionSettings { interval: Duration::from_millis(20), ..RetentionSettings::default() };
    let (_, stop_retention) = start(&fixture, settings);
    let relay = fixture.relay("a");
    eventually("only this hour's rows are left", async || {
        Ok((rows(&mut connection).await? == 50).then_some(()))
    })
    .await?;
    // The server deletes the file just after the commit.
    eventually("the space is given back", async || {
        let (database_after, segment_after): (i64, i64) =
            sqlx::query_as(sizes).bind(segment).fetch_one(&mut connection).await?;
        let given_back = segment_before > 4_000_000
            && segment_after < 65_536
            && database_before - database_after > segment_before / 2;
        Ok(given_back.then_some(()))
    })
    .await?;
    assert_eq!(fixture.found().await?.len(), 4_050, "everything is published, and once");
    stop_retention.await?;
    relay.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_segment_is_kept_while_one_shard_is_behind() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let segment = due_segment(&mut connection).await?;
    let before: String =
        sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut connection).await?;
    fill(&fixture, &mut connection, segment, 40).await?;
    publish_all(&mut connection).await?;
    let shards: Vec<i16> = sqlx::query_scalar("select distinct shard from outbox.event order by 1")
        .fetch_all(&mut connection)
        .await?;
    for shard in shards {
        sqlx::query("update outbox.shard set position = $2::text::pg_snapshot where shard = $1")
            .bind(shard)
            .bind(&before)
            .execute(&mut connection)
            .await?;
        let kept = retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?;
        assert_eq!(kept, Some(Kept::Unpublished), "shard {shard} is behind");
        publish_all(&mut connection).await?;
    }
    assert_eq!(rows(&mut connection).await?, 40);
    assert_eq!(retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?, None);
    assert_eq!(rows(&mut connection).await?, 0);
    fixture.remove().await
}

#[tokio::test]
async fn a_row_whose_transaction_ran_in_the_position_keeps_its_segment() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut writer = fixture.database.connect().await?;
    let segment = due_segment(&mut connection).await?;
    let mut late = writer.begin().await?;
    append_into(&fixture, &mut late, segment, "1").await?;
    // Transactions that end meanwhile carry the positions past the one that is still open.
    fill(&fixture, &mut connection, segment, 3).await?;
    publish_all(&mut connection).await?;
    late.commit().await?;
    let kept = retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?;
    assert_eq!(kept, Some(Kept::Unpublished));
    publish_all(&mut connection).await?;
    assert_eq!(retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?, None);
    fixture.remove().await
}

#[tokio::test]
async fn a_transaction_that_is_open_elsewhere_keeps_no_segment() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let mut idle = fixture.database.connect().await?;
    let segment = due_segment(&mut connection).await?;
    let mut open = idle.begin().await?;
    sqlx::query("select pg_current_xact_id()").execute(&mut *open).await?;
    fill(&fixture, &mut connection, segment, 20).await?;
    publish_all(&mut connection).await?;
    assert_eq!(retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?, None);
    open.rollback().await?;
    fixture.remove().await
}

#[tokio::test]
async fn nothing_is_truncated_by_positions_that_cannot_be_trusted() -> Result<()> {
    let breaks = [
        "update outbox.shard set system_identifier = 77 where shard = 3",
        "update outbox.shard set position = '999999999999:999999999999:' where shard = 3",
        "delete from outbox.shard where shard = 3",
    ];
    for breaking in breaks {
        let fixture = Fixture::new().await?;
        let mut connection = fixture.database.connect().await?;
        let segment = due_segment(&mut connection).await?;
        fill(&fixture, &mut connection, segment, 5).await?;
        publish_all(&mut connection).await?;
        connection.execute(breaking).await?;
        let kept = retention::truncate_now(&mut connection, segment, LOCK_TIMEOUT).await?;
        assert_eq!(kept, Some(Kept::Untrusted), "{breaking}");
        fixture.remove().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_segment_whose_turn_comes_again_is_kept_filled_further_and_reported() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let look = async |connection: &mut PgConnection| -> Result<outbox::overview::SegmentOverview> {
        let overview = outbox::overview::load(connection, Duration::from_secs(10)).await?;
        let filled = overview.segments.into_iter().max_by_key(|segment| segment.bytes);
        filled.ok_or_else(|| anyhow::anyhow!("no segment"))
    };
    fixture.append(&mut connection, &fixture.events(50, 10)).await?;
    let filled = look(&mut connection).await?;
    assert!(!filled.came_round && filled.is_unpublished, "{filled:?}");
    // As if nothing had been published for a round of the ring.
    connection
        .execute("update outbox.segment set emptied_at = clock_timestamp() - interval '5 hours'")
        .await?;
    let numbers: Vec<_> = (50..100).map(|n| fixture.event(&(n % 10).to_string(), &n.to_string())).collect();
    fixture.append(&mut connection, &numbers).await?;
    let filled = look(&mut connection).await?;
    assert!(filled.came_round && filled.is_unpublished, "{filled:?}");

    let relay = fixture.relay("a");
    fixture.settled().await?;
    let found = fixture.found().await?;
    assert_eq!(found.len(), 100);
    ensure_ordered(&found.iter().collect::<Vec<_>>())?;
    relay.stop().await?;
    assert_eq!(retention::truncate_now(&mut connection, filled.segment, LOCK_TIMEOUT).await?, None);
    let emptied = outbox::overview::load(&mut connection, Duration::from_secs(10)).await?;
    assert!(emptied.segments.iter().all(|segment| !segment.came_round), "{emptied:?}");
    fixture.remove().await
}

#[tokio::test]
async fn a_backlog_over_a_limit_raises_an_alarm_until_it_is_published() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let settings = RetentionSettings {
        interval: Duration::from_millis(20),
        rows_max: 30_000,
        ..RetentionSettings::default()
    };
    let (status, stop_retention) = start(&fixture, settings);
    // More than is counted in each shard, so that most of it is reckoned.
    for _ in 0..10 {
        fixture.append(&mut connection, &fixture.events(4_000, 1_000)).await?;
    }
    let alarm = eventually("the alarm is raised", async || Ok(status.alarm())).await?;
    let rows: u64 = alarm
        .strip_prefix("about ")
        .and_then(|text| text.split_once(" events wait, 30000 are allowed"))
        .map(|(rows, _)| rows.parse())
        .ok_or_else(|| anyhow::anyhow!("{alarm}"))??;
    assert!((30_000..=44_000).contains(&rows), "{alarm}");
    publish_all(&mut connection).await?;
    eventually("it is cleared", async || Ok(status.alarm().is_none().then_some(()))).await?;
    stop_retention.await?;
    fixture.remove().await
}

#[tokio::test]
async fn unusable_settings_are_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let settings = RetentionSettings { keep: Duration::from_secs(3 * 3_600), ..RetentionSettings::default() };
    let run = retention::run(
        settings,
        fixture.database.options(),
        CancellationToken::new(),
        Arc::new(RetentionStatus::default()),
    );
    let refused = run.await.map_err(|error| error.to_string());
    assert_eq!(
        refused,
        Err("retention settings are not usable: keep must be 1 minute to 2 hours".to_owned())
    );
    fixture.remove().await
}
