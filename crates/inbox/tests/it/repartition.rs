//! A topic gets more partitions while its events come again in every way.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use inbox::dead_letter::{self, Mandate, RedriveSettings, Selection};
use kafka_client::ProducerSettings;
use testkit::eventually;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::{Fixture, Record, Running};

const KEYS: u32 = 60;
const EVENTS: u64 = 600;

/// Every event, in the partition that its key has among so many; one in twenty is poison until the projection is mended.
fn records(partitions: u32) -> Result<Vec<Record>> {
    (0..EVENTS)
        .map(|sequence| {
            let key = (u32::try_from(sequence)? % KEYS).to_string().into_bytes();
            let partition = i32::try_from((kafka_client::murmur2(&key) & 0x7fff_ffff) % partitions)?;
            Ok(Record { key, ..Record::event(partition, sequence, &name(sequence)) })
        })
        .collect()
}

fn name(sequence: u64) -> String {
    if sequence % 20 == 7 { format!("bad {sequence}") } else { format!("e{sequence}") }
}

async fn redrive(fixture: &Fixture) -> Result<()> {
    let mut settings = RedriveSettings::new(ProducerSettings::new(fixture.client()));
    // Small pieces, so that new partitions come in between.
    settings.chunk_letters_max = NonZeroU32::new(3).context("3 is not 0")?;
    let mandate = Mandate::new(Uuid::from_u128(1), "ada", "mended in 1.2")?;
    let mut connection = fixture.database.connect().await?;
    let stop = CancellationToken::new();
    dead_letter::redrive(&mut connection, &settings, &Selection::default(), &mandate, &stop, |_| ()).await?;
    Ok(())
}

/// A member that soon notices new partitions.
fn start(fixture: &Fixture) -> Running {
    let mut settings = fixture.unguarded();
    let refresh = ("topic.metadata.refresh.interval.ms".to_owned(), "500".to_owned());
    settings.kafka.client.options.extend([refresh]);
    fixture.start_with(settings, fixture.database.options())
}

#[tokio::test]
async fn resends_and_redrives_count_once_while_the_topic_gets_more_partitions() -> Result<()> {
    let fixture = Fixture::new(3).await?;
    let members = [start(&fixture), start(&fixture)];
    fixture.produce(&records(3)?).await?;
    fixture.passed(i64::try_from(EVENTS)?).await?;
    assert_eq!(fixture.reasons().await?.len(), 30);
    for member in &members {
        member.effects.is_mended.store(true, Ordering::SeqCst);
    }
    // The resends of the old and of the new number of partitions, the growth and the redrive, all at once. With five
    // partitions a lane of event_handled has two owners.
    let grow = async || {
        fixture.admin.add_partitions(&fixture.topic, 5).await?;
        eventually("the brokers know the new partitions", async || {
            Ok((fixture.admin.partition_count(&fixture.topic).await? == Some(5)).then_some(()))
        })
        .await?;
        fixture.produce_afresh(&records(5)?).await
    };
    let old = records(3)?;
    tokio::try_join!(grow(), fixture.produce(&old), redrive(&fixture))?;
    fixture.produce_afresh(&records(5)?).await?;
    eventually("every record is passed", async || {
        fixture.check_balance().await?;
        let produced = fixture.record_count(&fixture.topic).await?;
        let passed: i64 = fixture.sums().await?.iter().sum();
        Ok((passed == produced).then_some(()))
    })
    .await?;
    let shared: usize = members.iter().map(|member| member.status.partitions().len()).sum();
    assert_eq!(shared, 5);
    for member in members {
        member.stop().await?;
    }
    let mut effects = fixture.effects().await?;
    effects.sort_unstable();
    let mut expected: Vec<String> = (0..EVENTS).map(name).collect();
    expected.sort_unstable();
    assert_eq!(effects, expected);
    fixture.remove().await
}
