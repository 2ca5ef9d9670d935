//! `kill -9` of relays and of streamers that owe the cache something: nothing lost, nothing double, sold out is shown.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use testkit::eventually;

use crate::harness::{KILLED, Role, Shop};
use crate::watcher::balanced;

/// Where a relay can be killed.
const RELAY_POINTS: [&str; 3] =
    ["relay.before_publish", "relay.after_ack_before_position", "relay.after_position"];
/// Where a streamer can be killed while the cache is owed an invalidation.
const OWING_POINTS: [&str; 2] = ["inbox.after_commit", "inbox.in_invalidation"];

async fn await_kill(mut role: Role, point: &str) -> Result<()> {
    let status = role.ended().await?;
    ensure!(status.signal() == Some(KILLED), "at {point} the process ended with {status}");
    Ok(())
}

#[tokio::test]
async fn a_relay_killed_at_any_point_loses_nothing_and_doubles_nothing() -> Result<()> {
    let shop = Shop::open().await?;
    let _api = shop.start("api").await?;
    let _streamer = shop.start("streamer").await?;
    let product = shop.product("relay-kill", 1_000).await?;
    let killing = async {
        for point in RELAY_POINTS {
            let relay = shop.spawn_with("relay", &[("FAILPOINTS", &format!("{point}=return"))])?;
            let (status, answer) = shop.order(product, 3).await?;
            ensure!(status < 300, "{answer}");
            await_kill(relay, point).await?;
        }
        let _relay = shop.start("relay").await?;
        shop.shows(product, 0, 9).await?;
        shop.verify()
    };
    balanced(&shop, killing).await
}

#[tokio::test]
async fn sold_out_is_shown_although_the_streamer_died_before_the_invalidation() -> Result<()> {
    for point in OWING_POINTS {
        let shop = Shop::open().await?;
        balanced(&shop, sold_out_is_shown_after(&shop, point)).await.with_context(|| point)?;
    }
    Ok(())
}

async fn sold_out_is_shown_after(shop: &Shop, point: &str) -> Result<()> {
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let product = shop.product("last-one", 1).await?;
    let page = format!("/api/v1/products/{product}");
    // The card is in the cache now, and says that there is one left.
    let shown = shop.succeed(Method::GET, &page, None).await?;
    ensure!(shown["soldOut"] == false, "{shown}");
    let streamer = shop.spawn_with(
        "streamer",
        &[
            ("FAILPOINTS", &format!("{point}=return")),
            ("COMMERCE_STREAMER_CONSUMERS", r#"["product-stock"]"#),
        ],
    )?;
    let (status, answer) = shop.order(product, 1).await?;
    ensure!(status < 300, "{answer}");
    await_kill(streamer, point).await?;
    let owed: i64 = sqlx::query_scalar("select count(*) from metrics.cache_intent")
        .fetch_one(&mut shop.connect().await?)
        .await?;
    ensure!(owed == 1, "{owed} invalidations are owed");
    let _streamer = shop.start("streamer").await?;
    eventually("the product page says sold out", async || {
        let shown = shop.succeed(Method::GET, &page, None).await?;
        Ok((shown["soldOut"] == true).then_some(()))
    })
    .await?;
    shop.verify()
}
