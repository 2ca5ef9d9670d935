//! Promise P8: in every snapshot the sums agree.

use anyhow::Result;
use testkit::{eventually, watched};

use crate::fixture::{Fixture, Record, events};

#[tokio::test]
async fn the_sums_agree_in_every_snapshot_while_everything_happens() -> Result<()> {
    let fixture = Fixture::new(3).await?;
    let mut settings = fixture.settings();
    settings.kafka.batch_records_max = 50;
    let running = fixture.start_with(settings, fixture.database.options());
    let mut all = 0;
    for round in 0..10_u64 {
        for partition in 0..3 {
            let begin = u64::try_from(partition)? * 10_000 + round * 80;
            let mut records = events(partition, begin..begin + 100);
            records[30] = Record::event(partition, begin + 90_000, "forbidden");
            records[60] = Record::event(partition, begin + 90_001, "bad");
            records[70] = Record::plain(partition, "other").with("ce_type", b"Other");
            all += i64::try_from(records.len())?;
            fixture.produce(&records).await?;
            fixture.check_balance().await?;
        }
    }
    loop {
        fixture.check_balance().await?;
        if fixture.sums().await?.iter().sum::<i64>() == all {
            break;
        }
    }
    running.stop().await?;
    let [handled, duplicates, dead_lettered, skipped] = fixture.sums().await?;
    assert_eq!((dead_lettered, skipped), (60, 30));
    assert_eq!(handled + duplicates, all - 90);
    assert!(duplicates > 0);
    fixture.remove().await
}

#[tokio::test]
async fn a_sum_that_is_damaged_is_noticed() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    fixture.produce(&events(0, 0..10)).await?;
    let running = fixture.start();
    fixture.passed(10).await?;
    running.stop().await?;
    let mut connection = fixture.database.connect().await?;
    for [damage, mending] in [
        [
            "update inbox.progress set skipped = skipped + 1",
            "update inbox.progress set skipped = skipped - 1",
        ],
        [
            "update inbox.progress set handled = handled + 1, skipped = skipped - 1",
            "update inbox.progress set handled = handled - 1, skipped = skipped + 1",
        ],
        [
            "update inbox.event_handled set bits = set_bit(bits, 99, 1)",
            "update inbox.event_handled set bits = set_bit(bits, 99, 0)",
        ],
        [
            "insert into effect (name, topic, partition) values ('e10', 'events', 0)",
            "delete from effect where name = 'e10'",
        ],
    ] {
        let damaging = async {
            sqlx::query(damage).execute(&mut connection).await?;
            eventually("somebody notices", async || Ok(None::<()>)).await
        };
        let noticed = watched(async || fixture.check_balance().await, damaging).await;
        let error = noticed.unwrap_err().to_string();
        assert!(error.contains("promise P8 is broken"), "after {damage:?}: {error}");
        sqlx::query(mending).execute(&mut connection).await?;
    }
    fixture.remove().await
}
