//! Recounts everything from its sources and compares it with what buyers see.
//!
//! Sources: likes, orders and stock from the shop's tables; views, which have no table, from their topic; the newest
//! stock events from theirs. Invariants: memory grows with products and dead letters, never with events (a bit for each
//! event excepted); the metrics database is read in one snapshot. Deliberately absent: any repair.

mod books;
mod compare;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod report;
mod scan;
mod seen;
mod settled;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use commerce_events::{STOCK_EVENTS, VIEW_EVENTS};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::PgConnection;

use crate::output;
use books::Books;
pub use books::Check;
pub use compare::{Difference, Totals};
pub use report::{DeadLetterCount, VerifyReport};
pub use scan::TopicSummary;
use scan::{Recount, Scan};
pub use settled::{Ends, Pipeline, Settling, wait_settled};
use settled::{connect, is_published, log_ends, plain_topic};

/// What is verified.
#[derive(Debug, Clone)]
pub struct VerifySettings {
    /// How long to wait until the pipeline has settled; `None` looks once.
    pub wait: Option<Duration>,
    /// Where to write the report; `-` is standard output.
    pub json: Option<PathBuf>,
    /// Databases and topics.
    pub pipeline: Pipeline,
}

/// Verifies, prints the report and writes it as JSON if asked to. Whether it is exact is for the caller's exit code.
///
/// # Errors
/// When a database or the brokers do not answer. A difference is no error: see [`VerifyReport::exact`].
pub async fn run(settings: VerifySettings) -> anyhow::Result<VerifyReport> {
    let report = Box::pin(verify(&settings)).await?;
    output::publish(&report, settings.json.as_deref())?;
    Ok(report)
}

async fn verify(settings: &VerifySettings) -> anyhow::Result<VerifyReport> {
    let begun = Instant::now();
    let pipeline = &settings.pipeline;
    let settling =
        wait_settled(pipeline, settings.wait.unwrap_or_default(), |what| eprintln!("waiting: {what}"))
            .await?;
    let mut metrics = connect(&pipeline.metrics_url).await?;
    let mut report = VerifyReport::default();
    match settling {
        Settling::Unsettled(unsettled) => {
            report.unsettled = unsettled;
            store::begin_snapshot(&mut metrics).await?;
        }
        Settling::Settled(ends) => {
            let (mut views, mut stock) = scan_topics(pipeline, &mut metrics).await?;
            store::begin_snapshot(&mut metrics).await?;
            compare_products(pipeline, &mut metrics, &mut views, &mut stock, &mut report).await?;
            report.topics = vec![views.summary, stock.summary];
            report.moved = !is_published(pipeline).await? || log_ends(pipeline).await? != ends;
        }
    }
    let books = Books::load(&mut metrics).await.context("reading the consumers' books")?;
    store::end_snapshot(&mut metrics).await?;
    let checks = books.checks(&pipeline.topic_prefix);
    report.checks = checks.len();
    report.broken = checks.into_iter().filter(|check| !check.holds()).collect();
    report.dead_letters = count_dead_letters(&books, &pipeline.topic_prefix);
    report.exact = report.unsettled.is_empty() && report.differences_total == 0 && report.broken.is_empty();
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// Every equation of promise P8 in the caller's snapshot of the metrics database: a transaction of isolation level `repeatable
/// read`. `topic_prefix` stands in front of topics.
///
/// # Errors
/// The database's failure.
pub async fn check_books(snapshot: &mut PgConnection, topic_prefix: &str) -> Result<Vec<Check>, sqlx::Error> {
    Ok(Books::load(snapshot).await?.checks(topic_prefix))
}

async fn compare_products(
    pipeline: &Pipeline,
    metrics: &mut PgConnection,
    views: &mut Recount,
    stock: &mut Recount,
    report: &mut VerifyReport,
) -> anyhow::Result<()> {
    let mut shop = connect(&pipeline.shop_url).await?;
    let comparison =
        compare::compare(&mut shop, metrics, views, stock).await.context("comparing products")?;
    report.products = comparison.products;
    report.expected = comparison.expected;
    report.found = comparison.found;
    report.differences_total = comparison.differences_total;
    report.differences = comparison.differences;
    Ok(())
}

/// Recounts the view topic and the stock topic.
async fn scan_topics(pipeline: &Pipeline, metrics: &mut PgConnection) -> anyhow::Result<(Recount, Recount)> {
    let bar = bar();
    let mut recounts = Vec::with_capacity(2);
    for topic in [VIEW_EVENTS, STOCK_EVENTS] {
        let full_name = format!("{}{topic}", pipeline.topic_prefix);
        let names = [topic.to_owned(), full_name.clone()];
        let dead = store::list_dead_offsets(metrics, &names).await?.into_iter().collect();
        let scan = Scan { client: pipeline.kafka.clone(), topic, full_name, dead };
        let bar = bar.clone();
        recounts.push(tokio::task::spawn_blocking(move || scan.run(&bar)).await??);
    }
    bar.finish_and_clear();
    let (Some(stock), Some(views)) = (recounts.pop(), recounts.pop()) else {
        anyhow::bail!("two topics were read");
    };
    Ok((views, stock))
}

fn count_dead_letters(books: &Books, prefix: &str) -> Vec<DeadLetterCount> {
    let mut counts = BTreeMap::<_, i64>::new();
    for row in &books.dead_letters {
        let key = (row.group_name.clone(), plain_topic(&row.topic, prefix).to_owned(), row.reason.clone());
        *counts.entry(key).or_default() += row.records;
    }
    counts
        .into_iter()
        .map(|((group, topic, reason), records)| DeadLetterCount { group, topic, reason, records })
        .collect()
}

/// On a terminal only.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{msg:12} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta}")
    {
        bar.set_style(style);
    }
    bar.set_message("recounting");
    bar
}
