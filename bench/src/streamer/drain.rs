//! A prepared backlog through one streamer, its effect compared with what was produced.

use anyhow::{Result, ensure};
use sqlx::PgConnection;

use super::mix::Ledger;
use super::produce::{self, Backlog, Kind};
use crate::ceilings::{self, rate};
use crate::drain::{PARTITIONS, measure, note_usage};
use crate::figures::Figures;
use crate::pipeline::Pipeline;

/// Each event once, beside the bare consumer; answers events per second.
pub(super) async fn clean(events: u64, figures: &mut Figures) -> Result<f64> {
    let pipeline = Pipeline::create().await?;
    let backlog = produce::fill(&pipeline, Kind::Clean, events).await?;
    let (brokers, topics) = (pipeline.brokers().to_owned(), backlog.topics.clone());
    let consumed =
        tokio::task::spawn_blocking(move || ceilings::consume(&brokers, &topics, PARTITIONS, events))
            .await??;
    figures.add("ceiling.consume", "events/s", consumed);
    let drained = drain(&pipeline, &backlog, Some(figures)).await?;
    figures.add("streamer.drain", "events/s", drained);
    figures.add("streamer.drain_ratio", "of ceiling.consume", drained / consumed);
    note_size(&pipeline, "inbox.event_handled", "streamer.dedup_bytes_per_event", events, figures).await?;
    pipeline.remove().await?;
    Ok(drained)
}

/// With duplicates and poison, to be compared with the clean rate.
pub(super) async fn dirty(events: u64, clean: f64, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let backlog = produce::fill(&pipeline, Kind::Dirty, events).await?;
    let drained = drain(&pipeline, &backlog, None).await?;
    figures.add("streamer.dirty", "records/s", drained);
    figures.add("streamer.dirty_ratio", "of streamer.drain", drained / clean);
    pipeline.remove().await
}

/// Remembered by a row for each event.
pub(super) async fn without_sequence(events: u64, clean: f64, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let backlog = produce::fill(&pipeline, Kind::WithoutSequence, events).await?;
    let drained = drain(&pipeline, &backlog, None).await?;
    figures.add("streamer.id_rows", "events/s", drained);
    figures.add("streamer.bitmap_gain", "of streamer.id_rows", clean / drained);
    note_size(&pipeline, "inbox.event_handled_id", "streamer.id_bytes_per_event", events, figures).await?;
    pipeline.remove().await
}

/// Records per second from the first that is done with to the last; `usage` gets what the process used.
async fn drain(pipeline: &Pipeline, backlog: &Backlog, usage: Option<&mut Figures>) -> Result<f64> {
    let mut connection = pipeline.connect().await?;
    settle(&mut connection).await?;
    let mut roles = [pipeline.start("streamer")?];
    let records = backlog.records();
    let (done, elapsed) = measure(&mut roles, records, async || passed(&mut connection).await).await?;
    if let Some(figures) = usage {
        note_usage(figures, &roles[0], records, ["streamer.rss", "streamer.cpu"])?;
    }
    ensure_exact(&mut connection, backlog).await?;
    Ok(rate(done, elapsed))
}

/// Has everything written that filling left behind: commits would wait for the disk beside it.
pub(super) async fn settle(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("checkpoint").execute(connection).await?;
    let synced = tokio::process::Command::new("sync").status().await?;
    ensure!(synced.success(), "sync ended with {synced}");
    Ok(())
}

/// Records that are done with, whatever became of them.
pub(super) async fn passed(connection: &mut PgConnection) -> Result<u64> {
    let sum: i64 = sqlx::query_scalar(
        "select coalesce(sum(handled + duplicates + dead_lettered + skipped), 0)::bigint from inbox.progress",
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(sum)?)
}

/// What became of the records is what was produced, and so is every product's count.
async fn ensure_exact(connection: &mut PgConnection, backlog: &Backlog) -> Result<()> {
    let expected = [backlog.events, backlog.duplicates, backlog.poison, 0];
    ensure_sums(connection, expected).await?;
    ensure_counts(connection, &backlog.ledger).await
}

/// Handled, duplicates, dead letters, skipped; and as many events remembered, and letters kept.
pub(super) async fn ensure_sums(connection: &mut PgConnection, expected: [u64; 4]) -> Result<()> {
    let (handled, duplicates, dead_lettered, skipped, remembered, letters): (i64, i64, i64, i64, i64, i64) =
        sqlx::query_as(
            "select sum(handled)::bigint, sum(duplicates)::bigint, sum(dead_lettered)::bigint, sum(skipped)::bigint,
                    (select coalesce(sum(bit_count(bits)), 0)::bigint from inbox.event_handled)
                        + (select count(*) from inbox.event_handled_id),
                    (select count(*) from inbox.dead_letter)
               from inbox.progress",
        )
        .fetch_one(connection)
        .await?;
    let sums = [handled, duplicates, dead_lettered, skipped];
    ensure!(
        sums.map(u64::try_from) == expected.map(Ok),
        "handled, duplicates, dead letters, skipped are {sums:?}, expected are {expected:?}"
    );
    ensure!(
        (remembered, letters) == (handled, dead_lettered),
        "{remembered} events remembered, {letters} letters"
    );
    Ok(())
}

/// Every count of every product.
pub(super) async fn ensure_counts(connection: &mut PgConnection, expected: &Ledger) -> Result<()> {
    let rows: Vec<(i64, i64, i64, i64, i64)> = sqlx::query_as(
        "select product_id, like_count, sales_count, sales_amount, view_count from metrics.product_metrics",
    )
    .fetch_all(connection)
    .await?;
    let counted: Ledger = rows
        .into_iter()
        .map(|(product, likes, sales, amount, views)| (product, [likes, sales, amount, views]))
        .collect();
    let wrong = expected.iter().find(|(product, counts)| counted.get(*product) != Some(*counts));
    if let Some((product, counts)) = wrong {
        anyhow::bail!("product {product}: counted {:?}, produced {counts:?}", counted.get(product));
    }
    ensure!(counted.len() == expected.len(), "{} products counted of {}", counted.len(), expected.len());
    Ok(())
}

/// Bytes of a table with its indexes for each event.
async fn note_size(
    pipeline: &Pipeline,
    table: &str,
    name: &'static str,
    events: u64,
    figures: &mut Figures,
) -> Result<()> {
    let mut connection = pipeline.connect().await?;
    // A table without partitions has no tree.
    let size =
        "select coalesce((select sum(pg_total_relation_size(relid)) from pg_partition_tree($1::regclass)),
                                pg_total_relation_size($1::regclass))::float8 / $2::float8";
    let bytes: f64 =
        sqlx::query_scalar(size).bind(table).bind(i64::try_from(events)?).fetch_one(&mut connection).await?;
    figures.add(name, "bytes", bytes);
    Ok(())
}
