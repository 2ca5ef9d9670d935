//! Strict projections while members, releases and operators get in each other's way.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use inbox::dead_letter::{LetterFilter, LetterStatus};
use rand::{RngExt as _, SeedableRng as _};
use sqlx::Connection as _;
use testkit::eventually;

use crate::fixture::{Fixture, Record};
use crate::strict::{discard, event, has_effects, is_free, mended, redrive, redrive_up_to, statuses, story};

/// Waits until a backend of the streamer waits for a lock, or `is_past` it.
async fn meets_the_lock(fixture: &Fixture, is_past: &str) -> Result<()> {
    let mut connection = fixture.database.connect().await?;
    eventually("the lock is met", async || {
        let met: bool = sqlx::query_scalar(
            "select coalesce(bool_or(wait_event_type = 'Lock' or query ilike $1), false)
               from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
        )
        .bind(is_past)
        .fetch_one(&mut connection)
        .await?;
        Ok(met.then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_consumer_waits_for_a_release_and_then_sees_that_its_key_is_free() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &story()[..2]).await?;
    let mut connection = fixture.database.connect().await?;
    let mut release = connection.begin().await?;
    sqlx::query("delete from inbox.blocked_key").execute(&mut *release).await?;
    sqlx::query("update inbox.dead_letter set status = 'discarded'").execute(&mut *release).await?;
    fixture.produce(&[event("a", 2, "e2")]).await?;
    meets_the_lock(&fixture, "%update inbox.progress%").await?;
    release.commit().await?;
    has_effects(&fixture, &["e0", "e2"]).await?;
    assert_eq!(statuses(&fixture).await?, [LetterStatus::Discarded]);
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_consumer_that_waits_for_a_release_keeps_nothing_that_the_release_needs() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let running = mended(&fixture, &story()[..2]).await?;
    let mut connection = fixture.database.connect().await?;
    let mut release = connection.begin().await?;
    sqlx::query("select from inbox.blocked_key for update").execute(&mut *release).await?;
    fixture.produce(&[event("a", 2, "e2")]).await?;
    meets_the_lock(&fixture, "%update inbox.progress%").await?;
    let blocks =
        sqlx::query("select from inbox.event_handled for update nowait").execute(&mut *release).await?;
    assert_eq!(blocks.rows_affected(), 1);
    release.rollback().await?;
    fixture.passed(3).await?;
    running.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_release_leaves_a_key_to_the_consumer_that_adds_to_it() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    mended(&fixture, &story()).await?.stop().await?;
    redrive(&fixture, LetterFilter::default()).await?;
    let mut connection = fixture.database.connect().await?;
    let mut adding = connection.begin().await?;
    sqlx::query("select from inbox.blocked_key for update").execute(&mut *adding).await?;
    let running = fixture.start_strict(fixture.settings());
    running.effects.is_mended.store(true, Ordering::SeqCst);
    meets_the_lock(&fixture, "rollback").await?;
    // One more letter, as the consumer would write it; a release that did not wait for it would unblock the key.
    sqlx::query(
        "insert into inbox.dead_letter
             (id, consumer_group, topic, partition, \"offset\", key, value, headers, event_type, reason, fingerprint, error,
              status, key_digest, turn)
         select gen_random_uuid(), consumer_group, topic, partition, 99, key, convert_to('e99', 'utf8'),
                replace(headers::text, '\"4\"', '\"99\"')::jsonb, event_type, 'blocked', '', '', 'blocked', key_digest,
                nextval('inbox.dead_letter_turn')
           from inbox.dead_letter where \"offset\" = 4",
    )
    .execute(&mut *adding)
    .await?;
    adding.commit().await?;
    has_effects(&fixture, &["e0", "e3", "bad 1", "e2", "e4", "e99"]).await?;
    is_free(&fixture).await?;
    running.stop().await?;
    fixture.remove().await
}

/// Keys of the storm.
const KEYS: u64 = 6;
/// Events of each of its waves.
const EVENTS: u64 = 150;

/// A wave of events: about one of ten is poison, half of those for good.
fn wave(dice: &mut rand::rngs::StdRng, begin: u64) -> Vec<Record> {
    let event = |sequence: u64, dice: &mut rand::rngs::StdRng| {
        let key = dice.random_range(0..KEYS);
        let kind = match dice.random_range(0..20) {
            0 => "forbidden ",
            1 => "bad ",
            _ => "",
        };
        let partition = i32::try_from(key % 3).expect("3 partitions");
        let name = format!("{kind}{key}/{sequence}");
        Record { key: key.to_string().into_bytes(), ..Record::event(partition, sequence, &name) }
    };
    (begin..begin + EVENTS).map(|sequence| event(sequence, dice)).collect()
}

/// Effects of each key, by the numbers of their events.
fn by_key(names: &[String]) -> BTreeMap<u64, Vec<u64>> {
    let mut keys: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for name in names {
        let place = name.trim_start_matches("bad ").trim_start_matches("forbidden ");
        let (key, sequence) = place.split_once('/').expect("a name has a key and a number");
        let key = key.parse().expect("a key is a number");
        keys.entry(key).or_default().push(sequence.parse().expect("a number"));
    }
    keys
}

#[tokio::test]
async fn the_order_of_each_key_holds_whatever_operators_and_members_do() -> Result<()> {
    let seed = 7;
    let mut dice = rand::rngs::StdRng::seed_from_u64(seed);
    let fixture = Fixture::new(3).await?;
    let mut settings = fixture.unguarded();
    settings.kafka.batch_records_max = 10;
    let mut expected = Vec::new();
    let mut members = vec![fixture.start_strict(settings.clone()), fixture.start_strict(settings.clone())];
    for begin in (0..8).map(|wave| wave * EVENTS) {
        let records = wave(&mut dice, begin);
        let value = |record: &Record| String::from_utf8_lossy(&record.value).into_owned();
        expected.extend(records.iter().map(value).filter(|name| !name.starts_with("forbidden")));
        for member in &members {
            member.effects.is_mended.store(dice.random(), Ordering::SeqCst);
        }
        // Operators and members act while the wave comes in.
        for piece in records.chunks(15) {
            fixture.produce(piece).await?;
            match dice.random_range(0..3) {
                0 => drop(redrive_up_to(&fixture, LetterFilter::default(), u32::MAX).await?),
                1 => {
                    let reason = Some("constraint".to_owned());
                    discard(&fixture, LetterFilter { reason, ..LetterFilter::default() }).await?;
                }
                _ => fixture.check_balance().await?,
            }
        }
        members.remove(0).kill().await;
        members.push(fixture.start_strict(settings.clone()));
    }
    fixture.passed(i64::try_from(8 * EVENTS)?).await?;
    for member in &members {
        member.effects.is_mended.store(true, Ordering::SeqCst);
    }
    let mut connection = fixture.database.connect().await?;
    eventually("nothing waits", async || {
        let constraint = LetterFilter { reason: Some("constraint".to_owned()), ..LetterFilter::default() };
        discard(&fixture, constraint).await?;
        redrive_up_to(&fixture, LetterFilter::default(), u32::MAX).await?;
        let keys: i64 =
            sqlx::query_scalar("select count(*) from inbox.blocked_key").fetch_one(&mut connection).await?;
        Ok((keys == 0).then_some(()))
    })
    .await
    .with_context(|| format!("seed {seed}"))?;
    assert_eq!(by_key(&fixture.effects().await?), by_key(&expected), "seed {seed}");
    for member in members {
        member.stop().await?;
    }
    fixture.remove().await
}
