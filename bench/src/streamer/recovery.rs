//! How long a member's partitions stand still when it is killed: without a name that survives it, and with one.
//!
//! Three streamers under steady traffic; one dies by `SIGKILL`. It is over when every partition has moved since and no more events
//! wait than at any time of the seconds before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::PgConnection;

use super::traffic::{Pace, Traffic};
use crate::drain::{PARTITIONS, TOPIC};
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// Members of the group.
const MEMBERS: usize = 3;
/// Events of a transaction.
const CHUNK: u64 = 10;
/// How long is looked how many events wait when nothing is wrong.
const CALM: Duration = Duration::from_secs(5);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where reading goes on in each partition, and who moved it there.
type Places = BTreeMap<i32, (i64, String)>;

/// One of three is killed and not replaced: the others get its partitions when its session has run out.
pub(super) async fn killed(rate: u32, figures: &mut Figures) -> Result<()> {
    let seconds = once(rate, |_| None).await?;
    figures.add("streamer.kill_recovery_seconds", "s", seconds);
    Ok(())
}

/// One of three is killed and begun again at once under its name: it takes up its own partitions.
pub(super) async fn restarted(rate: u32, figures: &mut Figures) -> Result<()> {
    let seconds = once(rate, |member| Some(format!("member-{member}"))).await?;
    figures.add("streamer.restart_recovery_seconds", "s", seconds);
    Ok(())
}

/// Seconds from the kill of the first member until all is as before; it is begun again if it has a name.
async fn once(rate: u32, name: impl Fn(usize) -> Option<String>) -> Result<f64> {
    let pipeline = Pipeline::create().await?;
    let topic = pipeline.topic(TOPIC);
    let start = |member: usize| match name(member) {
        Some(name) => pipeline.start_with("streamer", &[("COMMERCE_PROCESS_INSTANCE", &name)]),
        None => pipeline.start("streamer"),
    };
    let mut roles = vec![pipeline.start("relay")?];
    for member in 0..MEMBERS {
        roles.push(start(member)?);
    }
    let mut traffic = Traffic::start(&pipeline, CHUNK).await?;
    let pace = Pace::Rate(rate.into());
    let begun = Instant::now();
    traffic
        .run(pace, &mut roles, async |reader, _| {
            ensure!(begun.elapsed() < PATIENCE, "{MEMBERS} members do not share the partitions");
            Ok(is_shared(&places(reader, &topic).await?).then_some(()))
        })
        .await?;
    let calm = traffic.run_for(CALM, pace, &mut roles).await?;
    let calm = calm.iter().map(|sample| sample.behind).max().context("no samples")?;

    let killed = Instant::now();
    kill(roles.remove(1));
    if name(0).is_some() {
        roles.push(start(0)?);
    }
    let mut before = None;
    let seconds = traffic
        .run(pace, &mut roles, async |reader, sample| {
            let elapsed = killed.elapsed();
            ensure!(elapsed < PATIENCE, "{} events wait, {calm} did before", sample.behind);
            let places = places(reader, &topic).await?;
            let Some(before) = &before else {
                before = Some(places);
                return Ok(None);
            };
            Ok((have_moved(before, &places) && sample.behind <= calm).then_some(elapsed.as_secs_f64()))
        })
        .await?;
    traffic.finish(&mut roles).await?;
    drop(roles);
    pipeline.remove().await?;
    Ok(seconds)
}

/// Ends it by `SIGKILL`: that is how a role is dropped.
fn kill(role: Role) {
    drop(role);
}

async fn places(reader: &mut PgConnection, topic: &str) -> Result<Places> {
    let rows: Vec<(i32, i64, Option<String>)> =
        sqlx::query_as("select partition, next_offset, owner from inbox.progress where topic = $1")
            .bind(topic)
            .fetch_all(reader)
            .await?;
    Ok(rows
        .into_iter()
        .map(|(partition, offset, owner)| (partition, (offset, owner.unwrap_or_default())))
        .collect())
}

/// Whether every member has moved as many partitions as every other.
fn is_shared(places: &Places) -> bool {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (offset, owner) in places.values() {
        if *offset > 0 {
            *counts.entry(owner).or_default() += 1;
        }
    }
    let share = usize::try_from(PARTITIONS).unwrap_or_default() / MEMBERS;
    counts.len() == MEMBERS && counts.values().all(|count| *count == share)
}

fn have_moved(before: &Places, now: &Places) -> bool {
    before
        .iter()
        .all(|(partition, (offset, _))| now.get(partition).is_some_and(|(reached, _)| reached > offset))
}
