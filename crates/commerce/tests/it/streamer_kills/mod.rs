//! `kill -9` of `commerce streamer` at every named point, alone and as one of three, without poison and among it: each event
//! counts once, each poison is one dead letter (docs/PROOF.md).

mod members;
mod poison;
mod traffic;

use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, ensure};

use crate::harness::{KILLED, Shop};
use crate::watcher::balanced;
use members::Members;
use poison::Poison;
use traffic::Traffic;

/// What brings a member to a point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Traffic, or its own start.
    Traffic,
    /// Traffic with poison in it.
    Poison,
    /// Another member joins, so that it must give partitions away.
    Guest,
    /// It is asked to stop.
    Stop,
}

/// In the order in which a batch meets them.
const POINTS: [(&str, Cause); 14] = [
    ("inbox.in_assign", Cause::Traffic),
    ("inbox.after_poll", Cause::Traffic),
    ("inbox.after_fence", Cause::Traffic),
    ("inbox.after_dedup", Cause::Traffic),
    ("inbox.after_upsert", Cause::Traffic),
    ("inbox.before_commit", Cause::Traffic),
    (LEFT_AWAY, Cause::Traffic),
    ("inbox.after_commit", Cause::Traffic),
    ("inbox.in_invalidation", Cause::Traffic),
    ("inbox.after_invalidation", Cause::Traffic),
    ("inbox.in_bisection", Cause::Poison),
    ("inbox.after_dlt_send", Cause::Poison),
    ("inbox.in_revoke", Cause::Guest),
    ("inbox.in_shutdown", Cause::Stop),
];
/// One of three that dies here is not replaced before the others have its partitions; elsewhere it is replaced at once and keeps them.
const LEFT_AWAY: &str = "inbox.commit_answer_lost";

/// What is sent beside good events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mix {
    Clean,
    Poison,
}

#[tokio::test]
async fn a_streamer_killed_at_every_point_counts_each_event_once() -> Result<()> {
    kill_at_every_point(1, Mix::Clean).await
}

#[tokio::test]
async fn a_streamer_killed_at_every_point_among_poison_counts_each_event_once() -> Result<()> {
    kill_at_every_point(1, Mix::Poison).await
}

#[tokio::test]
async fn one_of_three_streamers_killed_at_every_point_counts_each_event_once() -> Result<()> {
    kill_at_every_point(3, Mix::Clean).await
}

#[tokio::test]
async fn one_of_three_streamers_killed_at_every_point_among_poison_counts_each_event_once() -> Result<()> {
    kill_at_every_point(3, Mix::Poison).await
}

async fn kill_at_every_point(count: usize, mix: Mix) -> Result<()> {
    let shop = Shop::open().await?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let poison = match mix {
        Mix::Clean => None,
        Mix::Poison => Some(Poison::begin(&shop).await?),
    };
    let mut traffic = Traffic::begin(&shop, poison).await?;
    let killing = async {
        let mut members = Members::begin(&shop, count).await?;
        let points = POINTS.iter().filter(|(_, cause)| *cause != Cause::Poison || mix == Mix::Poison);
        for (number, (point, cause)) in points.enumerate() {
            let victim = number % count;
            kill_at(&mut members, &mut traffic, victim, point, *cause).await.with_context(|| *point)?;
        }
        traffic.judge().await?;
        shop.verify()
    };
    Box::pin(balanced(&shop, killing)).await
}

/// The member at `victim` dies at `point`, and another takes its place.
async fn kill_at(
    members: &mut Members<'_>,
    traffic: &mut Traffic<'_>,
    victim: usize,
    point: &str,
    cause: Cause,
) -> Result<()> {
    members.replace(victim, Some(point))?;
    let mut guest = None;
    match cause {
        Cause::Traffic | Cause::Poison => {}
        Cause::Guest => {
            members.ready(victim).await?;
            guest = Some(members.guest()?);
        }
        Cause::Stop => {
            members.ready(victim).await?;
            members.at(victim)?.terminate()?;
        }
    }
    await_kill(members, traffic, victim).await?;
    if point == LEFT_AWAY && members.count() > 1 {
        await_successors(members, traffic, victim).await?;
    }
    members.replace(victim, None)?;
    members.ready(victim).await?;
    match guest {
        Some(guest) => members::stop(guest).await,
        None => Ok(()),
    }
}

/// Traffic goes on until the member has died.
async fn await_kill(members: &mut Members<'_>, traffic: &mut Traffic<'_>, victim: usize) -> Result<()> {
    let mut ending = std::pin::pin!(members.at(victim)?.ended());
    let status = loop {
        tokio::select! {
            ended = &mut ending => break ended?,
            () = traffic.pause() => traffic.round().await?,
        }
    };
    ensure!(status.signal() == Some(KILLED), "the process ended with {status}");
    Ok(())
}

/// Traffic goes on until others have written on every partition of a dead member.
async fn await_successors(members: &Members<'_>, traffic: &mut Traffic<'_>, victim: usize) -> Result<()> {
    let succeeding = testkit::eventually("others have its partitions", async || {
        traffic.pause().await;
        traffic.round().await?;
        Ok((!members.is_owner(victim).await?).then_some(()))
    });
    succeeding.await
}
