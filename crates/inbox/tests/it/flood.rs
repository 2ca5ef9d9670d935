//! Too many dead letters, and the operator's way on.

use anyhow::Result;
use inbox::offsets::{OffsetChange, OffsetTarget, Operator, change_offset, list_offsets};
use inbox::{FloodLimits, StopReason};
use testkit::eventually;

use crate::fixture::{Fixture, Record, Running, events, names};

fn target(fixture: &Fixture, partition: i32) -> OffsetTarget {
    OffsetTarget { consumer_group: fixture.group(), topic: fixture.topic.clone(), partition }
}

fn operator() -> Operator {
    Operator { by: "kim".to_owned(), reason: "the decoder is mended".to_owned() }
}

fn start(fixture: &Fixture) -> Running {
    let mut settings = fixture.settings();
    settings.flood = FloodLimits { in_a_row_max: 5, ..FloodLimits::default() };
    fixture.start_with(settings, fixture.database.options())
}

fn poison(sequences: std::ops::Range<u64>) -> Vec<Record> {
    sequences.map(|sequence| Record::event(0, sequence, "bad")).collect()
}

#[tokio::test]
async fn a_flood_of_dead_letters_stops_its_partition_until_an_operator_resumes_it() -> Result<()> {
    let fixture = Fixture::new(2).await?;
    fixture.produce(&events(0, 0..3)).await?;
    fixture.produce(&poison(3..13)).await?;
    fixture.produce(&events(0, 13..16)).await?;
    fixture.produce(&events(1, 100..110)).await?;
    let running = start(&fixture);
    assert_eq!(running.stop_reason().await?, StopReason::Halted("5 dead letters in a row".to_owned()));
    fixture.passed(3 + 5 + 10).await?;
    assert!(!running.status.ready());
    running.stop().await?;

    // A new process does not begin it again by itself.
    let running = start(&fixture);
    running.stop_reason().await?;
    let mut connection = fixture.database.connect().await?;
    for dry_run in [true, false] {
        let (before, after) =
            change_offset(&mut connection, &target(&fixture, 0), OffsetChange::Resume, &operator(), dry_run)
                .await?;
        assert_eq!((before.next_offset, after.next_offset, after.halted), (8, 8, None));
        let audited: i64 =
            sqlx::query_scalar("select count(*) from inbox.offset_audit").fetch_one(&mut connection).await?;
        assert_eq!(audited, i64::from(!dry_run));
    }
    // The other five are one flood more.
    fixture.passed(3 + 10 + 10).await?;
    running.stop_reason().await?;
    change_offset(&mut connection, &target(&fixture, 0), OffsetChange::Resume, &operator(), false).await?;
    fixture.passed(16 + 10).await?;
    running.stop().await?;
    // What goes on already is not resumed, and nobody is written down for it.
    let (before, after) =
        change_offset(&mut connection, &target(&fixture, 0), OffsetChange::Resume, &operator(), false)
            .await?;
    assert_eq!(before, after);
    let audited: i64 =
        sqlx::query_scalar("select count(*) from inbox.offset_audit").fetch_one(&mut connection).await?;
    assert_eq!(audited, 2);
    let mut expected: Vec<String> = names(0..3);
    expected.extend(names(13..16));
    expected.extend(names(100..110));
    let mut effects = fixture.effects().await?;
    effects.sort_unstable();
    expected.sort_unstable();
    assert_eq!(effects, expected);
    assert_eq!(fixture.sums().await?, [16, 0, 10, 0]);
    fixture.remove().await
}

/// As by a commit of which its worker heard nothing.
#[tokio::test]
async fn a_partition_that_is_halted_under_a_running_consumer_is_read_on_by_nobody() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&events(0, 0..3)).await?;
    let running = start(&fixture);
    fixture.passed(3).await?;
    let mut connection = fixture.database.connect().await?;
    sqlx::query("update inbox.progress set halted = 'a flood'").execute(&mut connection).await?;
    fixture.produce(&events(0, 3..6)).await?;
    assert_eq!(running.stop_reason().await?, StopReason::Halted("a flood".to_owned()));
    assert_eq!(fixture.effects().await?, names(0..3));
    change_offset(&mut connection, &target(&fixture, 0), OffsetChange::Resume, &operator(), false).await?;
    fixture.passed(6).await?;
    running.stop().await?;
    assert_eq!(fixture.effects().await?, names(0..6));
    fixture.check_balance().await?;
    fixture.remove().await
}

#[tokio::test]
async fn an_offset_that_an_operator_moves_under_a_running_streamer_counts_nothing_twice() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&events(0, 0..10)).await?;
    let running = start(&fixture);
    fixture.passed(10).await?;
    let mut connection = fixture.database.connect().await?;
    let set = |offset| OffsetChange::Set(offset);
    change_offset(&mut connection, &target(&fixture, 0), set(4), &operator(), false).await?;
    fixture.produce(&events(0, 10..12)).await?;
    // Six are read again, two are new.
    eventually("everything is read again", async || {
        Ok((fixture.sums().await? == [12, 6, 0, 0]).then_some(()))
    })
    .await?;
    running.stop().await?;
    fixture.produce(&events(0, 12..20)).await?;
    change_offset(&mut connection, &target(&fixture, 0), set(18), &operator(), false).await?;
    let running = start(&fixture);
    eventually("the end is read", async || {
        let offsets = list_offsets(&mut fixture.database.connect().await?, Some(&fixture.group())).await?;
        Ok(offsets.iter().all(|offset| offset.next_offset == 20).then_some(()))
    })
    .await?;
    running.stop().await?;
    assert_eq!(fixture.sums().await?, [14, 6, 0, 6]);
    fixture.check_balance().await?;
    let mut expected = names(0..12);
    expected.extend(names(18..20));
    assert_eq!(fixture.effects().await?, expected);
    fixture.remove().await
}

#[tokio::test]
async fn a_change_needs_a_known_partition_an_offset_a_name_and_a_reason() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&events(0, 0..1)).await?;
    let running = start(&fixture);
    fixture.passed(1).await?;
    running.stop().await?;
    let mut connection = fixture.database.connect().await?;
    let nobody = Operator { by: " ".to_owned(), reason: "x".to_owned() };
    for (partition, change, operator, text) in [
        (1, OffsetChange::Resume, operator(), "has no stored offset"),
        (0, OffsetChange::Set(-1), operator(), "is no offset"),
        (0, OffsetChange::Resume, nobody, "needs the name"),
    ] {
        let refused =
            change_offset(&mut connection, &target(&fixture, partition), change, &operator, false).await;
        assert!(refused.is_err_and(|error| error.to_string().contains(text)), "{text}");
    }
    fixture.remove().await
}
