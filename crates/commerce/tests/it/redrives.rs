//! `commerce dead-letters redrive` of ten thousand: killed in the middle, begun again, and called once more.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use commerce_events::VIEW_EVENTS;
use reqwest::Method;
use serde_json::Value;
use testkit::eventually;
use tokio::process::Command;

use crate::harness::{KILLED, Role, Shop};
use crate::records::{Record, Writer};
use crate::watcher::balanced;

const LETTERS: usize = 10_000;
/// Letters of one transaction (setting `dead_letters.chunk_letters_max`).
const CHUNK: usize = 500;
/// So many that every partition has some.
const PRODUCTS: usize = 10;
/// An outbox of which the streamer has never heard.
const SOURCE: &str = "urn:outbox:elsewhere";
/// The cause: no outbox beside the shop's own may be known. A flood stops nothing, so that there are as many letters.
const SICK: [(&str, &str); 4] = [
    ("COMMERCE_STREAMER_SOURCES_MAX", "1"),
    ("COMMERCE_STREAMER_FLOOD_IN_A_ROW", "0"),
    ("COMMERCE_STREAMER_FLOOD_WINDOW_LETTERS", "0"),
    ("COMMERCE_LOG_FILTER", "warn,inbox::engine::work=error"),
];

async fn redrive(shop: &Shop, failpoint: &str) -> Result<Output> {
    let mut command = shop.command("dead-letters");
    command.args(["redrive", "--all", "--by", "ada", "--reason", "limit raised", "--json"]);
    command.env("FAILPOINTS", failpoint);
    // The runtime must be free for the watcher.
    Ok(Command::from(command).output().await?)
}

/// A redrive that dies after `chunks` transactions, with the records of one more published.
async fn redrive_and_die(shop: &Shop, chunks: usize) -> Result<()> {
    let killed = redrive(shop, &format!("inbox.redrive_after_publish={chunks}*off->return")).await?;
    let text = String::from_utf8_lossy(&killed.stderr);
    ensure!(killed.status.signal() == Some(KILLED), "the redrive ended with {}: {text}", killed.status);
    Ok(())
}

/// What a redrive that comes to its end reports.
async fn redrive_all(shop: &Shop) -> Result<Value> {
    let done = redrive(shop, "").await?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// One number of the database.
async fn count(shop: &Shop, statement: &'static str) -> Result<usize> {
    let count: i64 = sqlx::query_scalar(statement).fetch_one(&mut shop.connect().await?).await?;
    Ok(usize::try_from(count)?)
}

/// So many letters, and no more, are marked as redriven.
async fn are_redriven(shop: &Shop, letters: usize) -> Result<()> {
    let redriven = count(shop, "select count(*) from inbox.dead_letter where status = 'redriven'").await?;
    ensure!(redriven == letters, "{redriven} letters are redriven instead of {letters}");
    Ok(())
}

/// A streamer for which every view of another outbox is a dead letter.
async fn start_sick(shop: &Shop, product: i64) -> Result<Role> {
    let mut streamer = shop.spawn_with("streamer", &SICK)?;
    shop.ready(&mut streamer).await?;
    // The shop's own outbox is the one that is known.
    shop.succeed(Method::POST, &format!("/api/v1/like/products/{product}"), None).await?;
    shop.shows(product, 1, 0).await?;
    Ok(streamer)
}

/// Views of all products in turn, each a dead letter in the end.
async fn make_letters(shop: &Shop, products: &[i64]) -> Result<()> {
    let view = |(number, product): (usize, &i64)| {
        Record::event(VIEW_EVENTS, "ProductViewed", *product, format!(r#"{{"productId":{product}}}"#))
            .with("ce_source", SOURCE)
            .with("ce_sequence", &number.to_string())
    };
    let views: Vec<Record> = products.iter().cycle().take(LETTERS).enumerate().map(view).collect();
    Writer::new(shop)?.write(&views).await?;
    eventually("every view is a dead letter", async || {
        let letters = count(shop, "select count(*) from inbox.dead_letter where reason = 'too_many_sources'");
        Ok((letters.await? == LETTERS).then_some(()))
    })
    .await
}

#[tokio::test]
async fn ten_thousand_letters_whose_redrive_is_killed_in_the_middle_count_once_each() -> Result<()> {
    let shop = Shop::open().await?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let mut products = Vec::with_capacity(PRODUCTS);
    for number in 0..PRODUCTS {
        products.push(shop.product(&format!("p{number}"), 1).await?);
    }
    Box::pin(balanced(&shop, redrive_ten_thousand(&shop, &products))).await
}

async fn redrive_ten_thousand(shop: &Shop, products: &[i64]) -> Result<()> {
    let sick = start_sick(shop, products[0]).await?;
    make_letters(shop, products).await?;
    drop(sick);
    let _streamer = shop.start("streamer").await?;
    redrive_and_die(shop, 7).await?;
    are_redriven(shop, 7 * CHUNK).await?;
    redrive_and_die(shop, 6).await?;
    are_redriven(shop, 13 * CHUNK).await?;
    let report = redrive_all(shop).await?;
    ensure!(report["done"] == LETTERS - 13 * CHUNK && report["left"] == serde_json::json!({}), "{report}");
    let report = redrive_all(shop).await?;
    ensure!(report["matched"] == 0 && report["done"] == 0, "{report}");
    are_redriven(shop, LETTERS).await?;
    let audited =
        "select count(distinct dead_letter_id) from inbox.dead_letter_audit where action = 'redrive'";
    ensure!(count(shop, audited).await? == LETTERS);
    for product in products {
        let views = eventually("its views are counted", async || {
            let views = shop.listed(*product).await?["viewCount"].as_u64().context("no count")?;
            Ok((views >= u64::try_from(LETTERS / PRODUCTS)?).then_some(views))
        })
        .await?;
        ensure!(views == u64::try_from(LETTERS / PRODUCTS)?, "product {product} has {views} views");
    }
    shop.verify()?;
    // What both killed ones had published and not marked came twice.
    let duplicates = "select sum(duplicates)::bigint from inbox.progress where topic like '%view-events'";
    ensure!(count(shop, duplicates).await? == 2 * CHUNK);
    ensure!(
        count(shop, "select count(*) from inbox.dead_letter").await? == LETTERS,
        "none is a letter again"
    );
    Ok(())
}
