//! Relays that share the shards.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use outbox::TickerSettings;
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, RunningRelay, without_resends};
use crate::order;

/// Nothing that a test waits for can come from a lease that runs out.
const ENDLESS: Duration = Duration::from_secs(3_600);

fn relay(fixture: &Fixture, owner: &str, lease: Duration) -> RunningRelay {
    let mut settings = fixture.settings(owner);
    settings.lease = lease;
    fixture.relay_with(settings)
}

/// Waits until the relays own as many shards as these, in any order.
async fn shared(relays: &[&RunningRelay], shares: &[usize]) -> Result<()> {
    eventually(&format!("the shares are {shares:?}"), async || {
        let mut owned: Vec<usize> = relays.iter().map(|relay| relay.status.shards()).collect();
        owned.sort_unstable_by(|left, right| right.cmp(left));
        Ok((owned == shares).then_some(()))
    })
    .await
}

#[tokio::test]
async fn relays_that_join_get_an_even_share_and_publish_it() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let first = relay(&fixture, "first", ENDLESS);
    shared(&[&first], &[16]).await?;
    let second = relay(&fixture, "second", ENDLESS);
    shared(&[&first, &second], &[8, 8]).await?;
    let third = relay(&fixture, "third", ENDLESS);
    shared(&[&first, &second, &third], &[6, 5, 5]).await?;
    eventually("each sees three", async || {
        Ok([&first, &second, &third].iter().all(|relay| relay.status.members() == 3).then_some(()))
    })
    .await?;
    for _ in 0..20 {
        fixture.append(&mut connection, &fixture.events(100, 100)).await?;
    }
    fixture.settled().await?;
    assert_eq!(fixture.found().await?.len(), 2_000, "nothing is sent twice");
    for relay in [&first, &second, &third] {
        eventually("it has published", async || Ok((relay.status.published() > 0).then_some(()))).await?;
    }
    for relay in [first, second, third] {
        relay.stop().await?;
    }
    let living: i64 =
        sqlx::query_scalar("select count(*) from outbox.relay").fetch_one(&mut connection).await?;
    assert_eq!(living, 0, "who leaves is forgotten");
    fixture.remove().await
}

#[tokio::test]
async fn a_leaving_relay_hands_its_shards_to_the_others_at_once() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (first, second) = (relay(&fixture, "first", ENDLESS), relay(&fixture, "second", ENDLESS));
    shared(&[&first, &second], &[8, 8]).await?;
    first.stop().await?;
    shared(&[&second], &[16]).await?;
    second.stop().await?;
    fixture.remove().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_change_hands_in_order_send_nothing_twice() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let done = CancellationToken::new();
    let come_and_go = async {
        let first = relay(&fixture, "first", ENDLESS);
        shared(&[&first], &[16]).await?;
        for number in 0..5 {
            let guest = relay(&fixture, &format!("guest-{number}"), ENDLESS);
            shared(&[&first, &guest], &[8, 8]).await?;
            guest.stop().await?;
            shared(&[&first], &[16]).await?;
        }
        done.cancel();
        anyhow::Ok(first)
    };
    let write = async {
        let mut written = 0;
        while !done.is_cancelled() {
            fixture.append(&mut connection, &fixture.events(20, 20)).await?;
            written += 20;
        }
        anyhow::Ok(written)
    };
    let (first, written) = tokio::try_join!(come_and_go, write)?;
    fixture.settled().await?;
    assert_eq!(fixture.found().await?.len(), written);
    first.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn the_shards_of_a_relay_that_died_are_taken_over_when_its_leases_run_out() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let lease = Duration::from_secs(2);
    let relays = ["first", "second", "third"].map(|owner| relay(&fixture, owner, lease));
    shared(&relays.each_ref(), &[6, 5, 5]).await?;
    let [first, second, third] = relays;
    first.kill().await;
    fixture.append(&mut connection, &fixture.events(100, 100)).await?;
    shared(&[&second, &third], &[8, 8]).await?;
    fixture.settled().await?;
    assert_eq!(without_resends(&fixture.found().await?)?.len(), 100);
    second.stop().await?;
    third.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_relay_that_is_started_again_takes_its_own_shards_back_at_once() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (first, second) = (relay(&fixture, "first", ENDLESS), relay(&fixture, "second", ENDLESS));
    shared(&[&first, &second], &[8, 8]).await?;
    first.kill().await;
    let first = relay(&fixture, "first", ENDLESS);
    shared(&[&first, &second], &[8, 8]).await?;
    first.stop().await?;
    second.stop().await?;
    fixture.remove().await
}

#[tokio::test]
async fn a_relay_that_died_while_it_owned_nothing_takes_no_share() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    let occupy =
        "update outbox.shard set owner = 'gone', lease_until = clock_timestamp() + interval '1 hour'";
    sqlx::query(occupy).execute(&mut connection).await?;
    let waiting = relay(&fixture, "waiting", ENDLESS);
    eventually("it stands by", async || Ok(waiting.status.is_connected().then_some(()))).await?;
    assert_eq!(waiting.status.shards(), 0);
    waiting.kill().await;
    sqlx::query("update outbox.shard set lease_until = clock_timestamp()").execute(&mut connection).await?;
    let other = relay(&fixture, "other", ENDLESS);
    shared(&[&other], &[16]).await?;
    other.stop().await?;
    fixture.remove().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_each_key_holds_while_relays_join_leave_and_die() -> Result<()> {
    let fixture = Arc::new(Fixture::new().await?);
    order::prepare(&mut fixture.database.connect().await?).await?;
    let stop = CancellationToken::new();
    let settings = TickerSettings { interval: Duration::from_millis(20) };
    let ticker = tokio::spawn(outbox::ticker::run(settings, fixture.database.options(), stop.clone()));
    let lease = Duration::from_secs(1);
    let come_and_go = async {
        let mut number = 0;
        let mut next = || {
            number += 1;
            relay(&fixture, &format!("relay-{number}"), lease)
        };
        let mut last = next();
        loop {
            let (left, died) = (next(), next());
            shared(&[&last, &left, &died], &[6, 5, 5]).await?;
            left.stop().await?;
            died.kill().await;
            shared(&[&last], &[16]).await?;
            let successor = next();
            shared(&[&last, &successor], &[8, 8]).await?;
            last.stop().await?;
            last = successor;
            if stop.is_cancelled() {
                return Ok::<_, anyhow::Error>(last);
            }
        }
    };
    let write = async {
        for _ in 0..WRITE_ROUNDS {
            order::write_all(&fixture).await?;
        }
        stop.cancel();
        anyhow::Ok(())
    };
    let (last, ()) = tokio::try_join!(come_and_go, write)?;
    fixture.settled().await?;
    order::ensure_exact(&fixture, &without_resends(&fixture.found().await?)?).await?;
    last.stop().await?;
    ticker.await?;
    Arc::into_inner(fixture).context("still used")?.remove().await
}

/// Long enough for the relays to come and go while writers write.
const WRITE_ROUNDS: usize = 3;
