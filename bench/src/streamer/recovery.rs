//! How long a member's partitions stand still when it is killed: without a name that survives it, and with one.
//!
//! Three streamers under steady traffic; one dies by `SIGKILL`. It is over when every partition has moved since and no more events
//! wait than at any time of the seconds before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::PgConnection;

use super::traffic::{Pace, Traffic};
use crate::drain::TOPIC;
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// Members of the group.
const MEMBERS: usize = 3;
/// Events of a transaction.
const CHUNK: u64 = 10;
/// Owners that have not changed for so long will not.
const SETTLED: Duration = Duration::from_secs(8);
/// How long is looked how many events wait when nothing is wrong.
const CALM: Duration = Duration::from_secs(5);
/// What the victim had under way in the database is done by then, and does not pass for its successor's.
const IN_FLIGHT: Duration = Duration::from_millis(100);
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

/// Seconds from the kill of the member that has most of the partitions until all is as before; it is begun again if it has a
/// name.
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
    let owners = settled_owners(&mut traffic, pace, &mut roles, &topic).await?;
    let calm = traffic.run_for(CALM, pace, &mut roles).await?;
    let calm = calm.iter().map(|sample| sample.behind).max().context("no samples")?;

    let owns = |member: usize| {
        let (static_name, process) = (format!("member-{member}-"), format!("-{}", roles[member + 1].id()));
        let is_owner = |owner: &&String| owner.starts_with(&static_name) || owner.ends_with(&process);
        owners.iter().filter(is_owner).count()
    };
    let victim = (0..MEMBERS).max_by_key(|member| owns(*member)).context("no members")?;
    ensure!(owns(victim) > 0, "{owners:?} are no members");
    let killed = Instant::now();
    kill(roles.remove(victim + 1));
    if name(victim).is_some() {
        roles.push(start(victim)?);
    }
    let mut before = None;
    let seconds = traffic
        .run(pace, &mut roles, async |reader, sample| {
            let elapsed = killed.elapsed();
            ensure!(elapsed < PATIENCE, "{} events wait, {calm} did before", sample.behind);
            let places = places(reader, &topic).await?;
            let Some(before) = &before else {
                before = (elapsed > IN_FLIGHT).then_some(places);
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

/// The owner of each partition, when none has changed for a while: members that share need a moment for it.
async fn settled_owners(
    traffic: &mut Traffic,
    pace: Pace,
    roles: &mut [Role],
    topic: &str,
) -> Result<Vec<String>> {
    let (begun, mut since, mut seen) = (Instant::now(), Instant::now(), Vec::new());
    traffic
        .run(pace, roles, async |reader, _| {
            ensure!(begun.elapsed() < PATIENCE, "partitions go from member to member");
            let places = places(reader, topic).await?;
            let owners: Vec<String> = places.into_values().map(|(_, owner)| owner).collect();
            if owners != seen {
                (seen, since) = (owners, Instant::now());
            }
            Ok((since.elapsed() >= SETTLED).then(|| seen.clone()))
        })
        .await
}

fn have_moved(before: &Places, now: &Places) -> bool {
    before
        .iter()
        .all(|(partition, (offset, _))| now.get(partition).is_some_and(|(reached, _)| reached > offset))
}
