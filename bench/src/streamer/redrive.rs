//! Dead letters whose cause is mended, brought back by `commerce dead-letters redrive`.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::PgConnection;

use super::drain::{ensure_counts, ensure_sums, passed, settle};
use super::produce::{self, Kind};
use crate::ceilings::rate;
use crate::drain::measure;
use crate::figures::Figures;
use crate::pipeline::{Pipeline, Role};

/// A rule that no like satisfies.
const CAUSE: &str = "alter table metrics.product_metrics add constraint no_likes check (like_count = 0)";
const MEND: &str = "alter table metrics.product_metrics drop constraint no_likes";
/// So many dead letters in a row would stop their partitions.
const NO_FLOOD_GUARD: [(&str, &str); 2] =
    [("COMMERCE_STREAMER_FLOOD_IN_A_ROW", "0"), ("COMMERCE_STREAMER_FLOOD_WINDOW_LETTERS", "0")];
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

pub(super) async fn once(letters: u64, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let mut connection = pipeline.connect().await?;
    sqlx::raw_sql(CAUSE).execute(&mut connection).await?;
    let backlog = produce::fill(&pipeline, Kind::Likes, letters).await?;
    let mut roles = [pipeline.start_with("streamer", &NO_FLOOD_GUARD)?];
    let (isolated, elapsed) = measure(&mut roles, letters, async || passed(&mut connection).await).await?;
    figures.add("streamer.isolate", "letters/s", rate(isolated, elapsed));
    ensure_sums(&mut connection, [0, 0, letters, 0]).await?;
    let [streamer] = &mut roles;
    while count(&mut connection, "published").await? < letters {
        streamer.ensure_running()?;
        tokio::time::sleep(INTERVAL).await;
    }

    sqlx::raw_sql(MEND).execute(&mut connection).await?;
    settle(&mut connection).await?;
    let elapsed = redrive(&pipeline, streamer, &mut connection, letters).await?;
    figures.add("streamer.redrive", "letters/s", rate(letters, elapsed));
    ensure_sums(&mut connection, [letters, 0, letters, 0]).await?;
    ensure_counts(&mut connection, &backlog.ledger).await?;
    let redriven = count(&mut connection, "redriven").await?;
    ensure!(redriven == letters, "{redriven} of {letters} letters are marked as redriven");
    drop(roles);
    pipeline.remove().await
}

/// The time from the start of the command until every letter's event is handled.
async fn redrive(
    pipeline: &Pipeline,
    streamer: &mut Role,
    connection: &mut PgConnection,
    letters: u64,
) -> Result<Duration> {
    let mut command = pipeline.command("dead-letters")?;
    command.args(["redrive", "--all", "--by", "bench", "--reason", "the rule is gone"]);
    let begun = Instant::now();
    let mut command = command.stdout(Stdio::null()).spawn()?;
    loop {
        let is_done = is_done(&mut command)?;
        let handled = passed(connection).await?;
        ensure!(handled <= 2 * letters, "{handled} records for {letters} letters and their redriving");
        if is_done && handled == 2 * letters {
            return Ok(begun.elapsed());
        }
        streamer.ensure_running()?;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether it has ended, which it may only do well.
fn is_done(command: &mut Child) -> Result<bool> {
    let status = command.try_wait()?;
    ensure!(status.is_none_or(|status| status.success()), "the redrive ended with {status:?}");
    Ok(status.is_some())
}

async fn count(connection: &mut PgConnection, status: &str) -> Result<u64> {
    let letters: i64 = sqlx::query_scalar("select count(*) from inbox.dead_letter where status = $1")
        .bind(status)
        .fetch_one(connection)
        .await?;
    Ok(u64::try_from(letters)?)
}
