//! What passes is waited for, in order, and never becomes a dead letter.

use std::sync::atomic::Ordering;

use anyhow::Result;
use testkit::eventually;

use crate::fixture::{Fixture, events, names};
use crate::proxy::Proxy;

#[tokio::test]
async fn a_missing_table_is_waited_for_and_holds_up_no_other_partition() -> Result<()> {
    let fixture = Fixture::new(2).await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::query(
        "create function refuse() returns trigger language plpgsql as $$ begin
                     if new.partition = 0 then raise exception 'disk full' using errcode = '53100'; end if;
                     return new; end $$",
    )
    .execute(&mut connection)
    .await?;
    sqlx::query("create trigger refuse before insert on effect for each row execute function refuse()")
        .execute(&mut connection)
        .await?;
    let mut settings = fixture.settings();
    settings.workers = 1;
    // One batch of the partition that fails takes all the memory that there is for whole batches.
    (settings.kafka.batch_bytes_max, settings.kafka.buffer_bytes_max) = (4_096, 4_096);
    let running = fixture.start_with(settings, fixture.database.options());
    fixture.produce(&events(0, 0..300)).await?;
    eventually("the failure is shown", async || {
        let partitions = running.status.partitions();
        Ok(partitions
            .into_iter()
            .find(|found| found.retrying.as_deref().is_some_and(|text| text.contains("disk full"))))
    })
    .await?;
    fixture.produce(&events(1, 1_000..1_050)).await?;
    fixture.passed(50).await?;
    assert_eq!(fixture.effects().await?, names(1_000..1_050));
    sqlx::query("drop trigger refuse on effect").execute(&mut connection).await?;
    fixture.passed(350).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?[50..], names(0..300));
    assert_eq!(fixture.reasons().await?, []);
    fixture.remove().await
}

#[tokio::test]
async fn connections_that_die_again_and_again_lose_and_double_nothing() -> Result<()> {
    let fixture = Fixture::new(2).await?;
    let mut settings = fixture.settings();
    // Small batches, so that many transactions are hit.
    settings.kafka.batch_records_max = 20;
    let options = fixture.database.options().application_name("victim");
    let running = fixture.start_with(settings, options);
    let mut connection = fixture.database.connect().await?;
    let count = 3_000;
    fixture.produce(&[events(0, 0..count), events(1, 10_000..10_000 + count)].concat()).await?;
    let all = i64::try_from(2 * count)?;
    let (mut killed, mut killed_at) = (0, -1);
    loop {
        let [handled, ..] = fixture.sums().await?;
        fixture.check_balance().await?;
        if handled == all {
            break;
        }
        // Only after some progress, or nothing would ever be done between two deaths.
        if handled == killed_at {
            tokio::task::yield_now().await;
            continue;
        }
        killed_at = handled;
        let victims: Vec<bool> = sqlx::query_scalar(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where application_name = 'victim' and datname = current_database()",
        )
        .fetch_all(&mut connection)
        .await?;
        killed += victims.len();
    }
    assert!(killed > 0);
    running.stop().await?;
    assert_eq!(fixture.effects().await?.len(), usize::try_from(all)?);
    assert_eq!(fixture.sums().await?, [all, 0, 0, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_known_by_the_offset_and_followed_up() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let proxy = Proxy::start(&fixture.database.options()).await?;
    let running = fixture.start_with(fixture.settings(), proxy.options(fixture.database.options()));
    fixture.produce(&events(0, 0..5)).await?;
    fixture.passed(5).await?;
    proxy.swallow.store(1, Ordering::SeqCst);
    fixture.produce(&events(0, 5..10)).await?;
    fixture.passed(10).await?;
    fixture.produce(&events(0, 10..15)).await?;
    fixture.passed(15).await?;
    // What follows a commit followed this one too.
    eventually("every event was told as committed", async || {
        Ok((running.effects.committed.load(Ordering::SeqCst) == 15).then_some(()))
    })
    .await?;
    assert_eq!(proxy.swallow.load(Ordering::SeqCst), 0);
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..15));
    assert_eq!(fixture.sums().await?, [15, 0, 0, 0]);
    fixture.remove().await
}
