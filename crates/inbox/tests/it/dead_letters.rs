//! A poison record takes nothing else with it, and is neither lost nor doubled.

use std::time::Duration;

use anyhow::Result;
use inbox::UnknownTypes;
use inbox::dead_letter::{DeadLetterPublisher, PublisherSettings};
use kafka_client::{ProducerSettings, TopicReader};
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, Record, events};

#[tokio::test]
async fn each_way_to_be_wrong_is_one_dead_letter_and_the_neighbours_apply() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let typed = |name: &str| Record::plain(0, name).with("ce_type", b"Counted");
    let records = [
        Record::event(0, 0, "e0"),
        Record::event(0, 1, "bad \0 value"),
        Record::event(0, 2, "panic"),
        typed("no id"),
        typed("id").with("ce_id", b"forty-two"),
        typed("sequence").with("ce_source", b"urn:x").with("ce_sequence", b"abc"),
        typed("source").with("ce_source", b"\xff\0").with("ce_sequence", b"1"),
        Record::plain(0, "no type"),
        Record::plain(0, "type").with("ce_type", b"\xff\xfe\0"),
        Record { value: b"\xff".to_vec(), key: b"\0\xff".to_vec(), ..Record::event(0, 3, "") },
        Record::event(0, 4, "bad headers").with("x\u{7f}", b"\0").with("", b"\xff"),
        Record::event(0, 5, "e5"),
    ];
    fixture.produce(&records).await?;
    let running = fixture.start();
    fixture.passed(12).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e0", "e5"]);
    let expected = [
        (1, "malformed"),
        (2, "handler_panic"),
        (3, "missing_event_id"),
        (4, "invalid_event_id"),
        (5, "invalid_event_id"),
        (6, "invalid_event_id"),
        (7, "missing_event_type"),
        (8, "missing_event_type"),
        (9, "malformed"),
        (10, "malformed"),
    ];
    assert_eq!(fixture.reasons().await?, expected.map(|(offset, reason)| (offset, reason.to_owned())));
    assert_eq!(fixture.sums().await?, [2, 0, 10, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn events_that_the_database_refuses_are_found_among_thousands() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut records = events(0, 0..2_000);
    for (offset, name) in
        [(0, "forbidden a"), (1_234, "overflow"), (1_235, "explode"), (1_999, "forbidden b")]
    {
        records[offset] = Record::event(0, u64::try_from(offset)?, name);
    }
    fixture.produce(&records).await?;
    let running = fixture.start();
    fixture.passed(2_000).await?;
    let committed = running.effects.committed.load(std::sync::atomic::Ordering::SeqCst);
    running.stop().await?;
    assert_eq!(committed, 1_996);
    let expected =
        [(0, "constraint"), (1_234, "refused_by_database"), (1_235, "handler_panic"), (1_999, "constraint")];
    assert_eq!(fixture.reasons().await?, expected.map(|(offset, reason)| (offset, reason.to_owned())));
    let good: Vec<String> = (0..2_000_u64)
        .filter(|number| ![0, 1_234, 1_235, 1_999].contains(number))
        .map(|number| format!("e{number}"))
        .collect();
    assert_eq!(fixture.effects().await?, good);
    assert_eq!(fixture.sums().await?, [1_996, 0, 4, 0]);
    fixture.remove().await
}

#[tokio::test]
async fn a_dead_letter_is_not_remembered_as_handled() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&[Record::event(0, 9, "forbidden"), Record::event(0, 9, "e9")]).await?;
    let running = fixture.start();
    fixture.passed(2).await?;
    fixture.produce(&[Record::event(0, 9, "e9"), Record::event(0, 9, "e9")]).await?;
    fixture.passed(4).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["e9"]);
    fixture.remove().await
}

#[tokio::test]
async fn a_record_of_an_unknown_type_is_skipped_or_a_dead_letter_as_the_settings_say() -> Result<()> {
    for (policy, reasons, sums) in [
        (UnknownTypes::Skip, vec![], [2, 0, 0, 2]),
        (UnknownTypes::DeadLetter, vec![(1, "unknown_event_type".to_owned())], [2, 0, 1, 1]),
    ] {
        let fixture = Fixture::new(1).await?;
        let foreign = |name| Record::plain(0, "foreign").with("ce_type", name);
        let records =
            [Record::event(0, 0, "e0"), foreign(b"Foreign"), foreign(b"Other"), Record::event(0, 1, "e1")];
        fixture.produce(&records).await?;
        let mut settings = fixture.settings();
        settings.unknown_types = policy;
        let running = fixture.start_with(settings, fixture.database.options());
        fixture.passed(4).await?;
        running.stop().await?;
        assert_eq!(fixture.effects().await?, ["e0", "e1"]);
        assert_eq!(fixture.reasons().await?, reasons);
        assert_eq!(fixture.sums().await?, sums);
        fixture.remove().await?;
    }
    Ok(())
}

#[tokio::test]
async fn sources_beyond_the_limit_become_dead_letters() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let record = |source: &[u8], sequence: &[u8], name: &str| {
        Record::plain(0, name)
            .with("ce_type", b"Counted")
            .with("ce_source", source)
            .with("ce_sequence", sequence)
    };
    fixture
        .produce(&[
            record(b"a", b"1", "a1"),
            record(b"b", b"1", "b1"),
            record(b"c", b"1", "c1"),
            record(b"a", b"2", "a2"),
        ])
        .await?;
    let mut settings = fixture.settings();
    settings.sources_max = 2;
    let running = fixture.start_with(settings, fixture.database.options());
    fixture.passed(4).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, ["a1", "b1", "a2"]);
    assert_eq!(fixture.reasons().await?, [(2, "too_many_sources".to_owned())]);
    fixture.remove().await
}

#[tokio::test]
async fn a_dead_letter_is_published_once_with_springs_headers_to_the_same_partition() -> Result<()> {
    let fixture = Fixture::new(3).await?;
    fixture.create_topic("events-dlt", 3).await?;
    let poison = Record::event(2, 0, "bad").with("traceparent", b"00-trace").with("binary", b"\xff\0");
    fixture.produce(&[Record::event(2, 1, "e1"), poison]).await?;
    let running = fixture.start();
    fixture.passed(2).await?;
    let stop = CancellationToken::new();
    let settings = PublisherSettings::new(vec![fixture.group()], ProducerSettings::new(fixture.client()));
    let publisher = DeadLetterPublisher::new(settings, fixture.database.options())?;
    let publishing = tokio::spawn(publisher.run(stop.clone()));
    let mut connection = fixture.database.connect().await?;
    let group = fixture.group();
    eventually("dead letter is published", async || {
        let counts = inbox::progress::dead_letter_counts(&mut connection, Some(&group)).await?;
        Ok(counts.iter().all(|count| count.status == "published").then_some(()))
    })
    .await?;
    let ends = fixture.admin.end_offsets(&format!("{}-dlt", fixture.topic)).await?;
    assert_eq!(ends.into_values().collect::<Vec<_>>(), [0, 0, 1]);
    let (client, topic) = (fixture.client(), format!("{}-dlt", fixture.topic));
    let record = tokio::task::spawn_blocking(move || {
        let mut reader = TopicReader::open(&client, &topic)?;
        let record = reader.next()?;
        anyhow::ensure!(reader.next()?.is_none(), "more than one record");
        record.ok_or_else(|| anyhow::anyhow!("no record"))
    })
    .await??;
    assert_eq!(
        (record.partition, record.key.as_deref(), record.value.as_deref()),
        (2, Some(&b"key"[..]), Some(&b"bad"[..]))
    );
    for (name, value) in [
        ("ce_sequence", &b"0"[..]),
        ("binary", b"\xff\0"),
        ("traceparent", b"00-trace"),
        ("kafka_dlt-original-topic", fixture.topic.as_bytes()),
        ("kafka_dlt-original-partition", &[0, 0, 0, 2]),
        ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 1]),
        ("kafka_dlt-original-timestamp", &1_700_000_000_000_i64.to_be_bytes()),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", group.as_bytes()),
        ("x-dlq-reason", b"malformed"),
    ] {
        assert_eq!(record.header(name), Some(value), "{name}");
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(60), publishing).await??;
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn two_publishers_send_each_letter_once() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.create_topic("events-dlt", 1).await?;
    let poison: Vec<Record> = (0..300).map(|sequence| Record::event(0, sequence, "bad")).collect();
    fixture.produce(&poison).await?;
    let running = fixture.start_with(fixture.unguarded(), fixture.database.options());
    fixture.passed(300).await?;
    running.stop().await?;
    let stop = CancellationToken::new();
    let mut publishing = Vec::new();
    for _ in 0..2 {
        let mut settings =
            PublisherSettings::new(vec![fixture.group()], ProducerSettings::new(fixture.client()));
        settings.interval = Duration::from_millis(1);
        let publisher = DeadLetterPublisher::new(settings, fixture.database.options())?;
        publishing.push(tokio::spawn(publisher.run(stop.clone())));
    }
    let mut connection = fixture.database.connect().await?;
    eventually("every letter is published", async || {
        let counts = inbox::progress::dead_letter_counts(&mut connection, Some(&fixture.group())).await?;
        Ok(counts.iter().all(|count| count.status == "published").then_some(()))
    })
    .await?;
    stop.cancel();
    for publishing in publishing {
        publishing.await?;
    }
    assert_eq!(fixture.record_count(&format!("{}-dlt", fixture.topic)).await?, 300);
    fixture.remove().await
}

#[tokio::test]
async fn a_publisher_that_waits_for_letters_keeps_no_other_from_publishing() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.create_topic("events-dlt", 1).await?;
    fixture.produce(&[Record::event(0, 0, "bad")]).await?;
    let running = fixture.start();
    fixture.passed(1).await?;
    running.stop().await?;
    let stop = CancellationToken::new();
    let mut settings = PublisherSettings::new(vec![fixture.group()], ProducerSettings::new(fixture.client()));
    // After the first round it only waits.
    settings.interval = Duration::from_secs(3_600);
    let publisher = DeadLetterPublisher::new(settings, fixture.database.options())?;
    let publishing = tokio::spawn(publisher.run(stop.clone()));
    let mut connection = fixture.database.connect().await?;
    eventually("dead letter is published", async || {
        let counts = inbox::progress::dead_letter_counts(&mut connection, Some(&fixture.group())).await?;
        Ok(counts.iter().all(|count| count.status == "published").then_some(()))
    })
    .await?;
    eventually("nobody is locked out", async || {
        let locks = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                      where l.locktype = 'advisory' and d.datname = current_database()";
        let locks: i64 = sqlx::query_scalar(locks).fetch_one(&mut connection).await?;
        Ok((locks == 0).then_some(()))
    })
    .await?;
    stop.cancel();
    publishing.await?;
    fixture.remove().await
}
