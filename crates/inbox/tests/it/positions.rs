//! Where reading begins, and when it must not begin. Promise P8 holds all the time.

use anyhow::Result;
use inbox::StopReason;
use inbox::offsets::{OffsetChange, OffsetTarget, Operator, change_offset};
use testkit::{Line, Proxy, eventually};

use crate::fixture::{Fixture, Record, events, has_partitions, names};

/// So many events are there and handled, and nobody runs.
async fn handle_first(fixture: &Fixture, count: u64) -> Result<()> {
    fixture.produce(&events(0, 0..count)).await?;
    let running = fixture.start();
    fixture.passed(i64::try_from(count)?).await?;
    running.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_database_decides_where_reading_goes_on_not_kafka() -> Result<()> {
    Fixture::balanced(1, async |fixture| {
        handle_first(fixture, 10).await?;
        // As if the database had lost its last transactions, while the broker knows of them.
        let forget = "update inbox.progress set next_offset = 4, handled = 4;
            update inbox.event_handled set bits = set_byte(set_byte(bits, 0, 15), 1, 0);
            delete from effect where name not in ('e0', 'e1', 'e2', 'e3')";
        sqlx::raw_sql(forget).execute(&mut fixture.database.connect().await?).await?;
        let running = fixture.start();
        fixture.passed(10).await?;
        running.stop().await?;
        assert_eq!(fixture.effects().await?, names(0..10));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stored_offset_beyond_the_logs_end_stops_its_partition_and_no_other() -> Result<()> {
    Fixture::balanced(2, async |fixture| {
        fixture.produce(&events(0, 0..3)).await?;
        let running = fixture.start();
        fixture.passed(3).await?;
        has_partitions(&running, 2).await?;
        running.stop().await?;
        let mut connection = fixture.database.connect().await?;
        sqlx::query("update inbox.progress set next_offset = 50, first_offset = 47 where partition = 0")
            .execute(&mut connection)
            .await?;
        fixture.produce(&events(1, 10..15)).await?;
        let running = fixture.start();
        fixture.passed(55).await?;
        assert_eq!(running.stop_reason().await?, StopReason::BeyondLogEnd { stored: 50, high: 3 });
        eventually("not ready, and says why", async || {
            Ok(running.status.not_ready().filter(|text| text.contains("beyond the log's end")))
        })
        .await?;
        assert!(running.status.alive());
        running.stop().await?;
        Ok(())
    })
    .await
}

/// The topic of the same name, empty.
async fn create_topic_again(fixture: &Fixture) -> Result<()> {
    fixture.admin.delete_topics(&[&fixture.topic]).await?;
    eventually("topic is gone", async || {
        Ok(fixture.admin.partition_count(&fixture.topic).await?.is_none().then_some(()))
    })
    .await?;
    fixture.create_topic("events", 1).await
}

/// As an operator has it read from its begin.
async fn begin_anew(fixture: &Fixture) -> Result<()> {
    let target = OffsetTarget { consumer_group: fixture.group(), topic: fixture.topic.clone(), partition: 0 };
    let operator = Operator { by: "test".to_owned(), reason: "new topic".to_owned() };
    let mut connection = fixture.database.connect().await?;
    change_offset(&mut connection, &target, OffsetChange::Set(0), &operator, false).await?;
    Ok(())
}

#[tokio::test]
async fn a_topic_created_again_and_refilled_stops_until_an_operator_sets_the_offset() -> Result<()> {
    Fixture::balanced(1, async |fixture| {
        handle_first(fixture, 3).await?;
        create_topic_again(fixture).await?;
        // The log has the stored offset 3 again: only the id tells.
        fixture.produce(&events(0, 10..20)).await?;
        let running = fixture.start();
        let reason = running.stop_reason().await?;
        assert!(matches!(reason, StopReason::TopicChanged { .. }), "{reason}");
        eventually("not ready, and says why", async || {
            Ok(running.status.not_ready().filter(|text| text.contains("created again")))
        })
        .await?;
        assert_eq!(fixture.effects().await?, names(0..3));
        begin_anew(fixture).await?;
        fixture.passed(10).await?;
        running.stop().await?;
        let expected: Vec<String> = names(0..3).into_iter().chain(names(10..20)).collect();
        assert_eq!(fixture.effects().await?, expected);
        // The new topic is the known one from now on.
        fixture.produce(&events(0, 20..22)).await?;
        let running = fixture.start();
        fixture.passed(12).await?;
        running.stop().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_topic_created_again_and_refilled_under_a_running_consumer_stops_and_nothing_is_lost() -> Result<()>
{
    Fixture::balanced(1, async |fixture| {
        fixture.produce(&events(0, 0..3)).await?;
        let proxy = Proxy::start(fixture.topics.brokers().parse()?)?;
        let mut settings = fixture.settings();
        settings.kafka.client.brokers = format!("127.0.0.1:{}", proxy.port);
        let running = fixture.start_with(settings, fixture.database.options());
        fixture.passed(3).await?;
        // The consumer does not see the moment in which the topic is not there.
        proxy.set(Line::Frozen);
        create_topic_again(fixture).await?;
        fixture.produce_afresh(&events(0, 10..20)).await?;
        proxy.set(Line::Up);
        let reason = eventually("the partition is stopped for good", async || {
            let stopped = running.status.partitions().into_iter().find_map(|partition| partition.stopped);
            Ok(stopped.filter(|reason| matches!(reason, StopReason::TopicChanged { .. })))
        })
        .await?;
        assert!(!running.status.ready(), "{reason}");
        begin_anew(fixture).await?;
        fixture.passed(10).await?;
        eventually("it is ready", async || Ok(running.status.ready().then_some(()))).await?;
        running.stop().await?;
        let mut effects = fixture.effects().await?;
        effects.sort_unstable();
        let mut expected: Vec<String> = names(0..3).into_iter().chain(names(10..20)).collect();
        expected.sort_unstable();
        assert_eq!(effects, expected);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn records_that_retention_took_before_they_were_handled_stop_the_partition() -> Result<()> {
    Fixture::balanced(1, async |fixture| {
        handle_first(fixture, 3).await?;
        let mut connection = fixture.database.connect().await?;
        sqlx::query("update inbox.progress set next_offset = -5, first_offset = -8")
            .execute(&mut connection)
            .await?;
        let running = fixture.start();
        assert_eq!(running.stop_reason().await?, StopReason::BelowLogStart { stored: -5, low: 0 });
        running.stop().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_log_that_starts_behind_the_stored_offset_stops_the_partition_and_no_other() -> Result<()> {
    Fixture::balanced(2, async |fixture| {
        fixture.produce(&events(0, 0..3)).await?;
        let running = fixture.start();
        fixture.passed(3).await?;
        has_partitions(&running, 2).await?;
        running.stop().await?;
        fixture.produce(&events(0, 3..10)).await?;
        fixture.admin.delete_records(&fixture.topic, 0, 6).await?;
        fixture.produce(&events(1, 20..25)).await?;
        let running = fixture.start();
        assert_eq!(running.stop_reason().await?, StopReason::BelowLogStart { stored: 3, low: 6 });
        fixture.passed(3 + 5).await?;
        // What is left of the log is not read, or the hole would be passed over in silence.
        assert_eq!(fixture.sums().await?, [8, 0, 0, 0]);
        assert!(!running.status.ready());
        running.stop().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_offset_that_the_broker_refuses_while_reading_stops_the_partition() -> Result<()> {
    Fixture::balanced(1, async |fixture| {
        let running = fixture.start();
        fixture.produce(&events(0, 0..3)).await?;
        fixture.passed(3).await?;
        // Another owner seems to have moved far ahead: the fence refuses, and there is nothing to read there.
        let mut connection = fixture.database.connect().await?;
        sqlx::query("update inbox.progress set next_offset = 1000, first_offset = 997")
            .execute(&mut connection)
            .await?;
        fixture.produce(&[Record::event(0, 3, "e3")]).await?;
        assert_eq!(running.stop_reason().await?, StopReason::OutOfRange(1000));
        running.stop().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_position_stops_the_partition_instead_of_beginning_anew() -> Result<()> {
    Fixture::balanced(1, async |fixture| {
        let running = fixture.start();
        fixture.produce(&events(0, 0..3)).await?;
        fixture.passed(3).await?;
        let forget = "delete from inbox.progress; delete from inbox.event_handled; delete from effect";
        sqlx::raw_sql(forget).execute(&mut fixture.database.connect().await?).await?;
        fixture.produce(&[Record::event(0, 3, "e3")]).await?;
        assert_eq!(running.stop_reason().await?, StopReason::NoProgress);
        running.stop().await?;
        Ok(())
    })
    .await
}
