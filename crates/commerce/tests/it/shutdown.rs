//! SIGTERM: each role finishes what it has begun and exits with 0.

use anyhow::{Result, ensure};
use reqwest::Method;

use crate::harness::Shop;

#[tokio::test]
async fn every_role_ends_well_when_it_is_asked_to() -> Result<()> {
    let shop = Shop::open().await?;
    let mut roles = Vec::new();
    for name in ["api", "relay", "streamer"] {
        roles.push(shop.start(name).await?);
    }
    let product = shop.product("farewell", 10).await?;
    shop.succeed(Method::POST, &format!("/api/v1/like/products/{product}"), None).await?;
    shop.shows(product, 1, 0).await?;
    for role in &mut roles {
        role.terminate()?;
        let status = role.ended().await?;
        ensure!(status.success(), "ended with {status}");
    }
    let leases: i64 =
        sqlx::query_scalar("select count(*) from outbox.shard where lease_until > clock_timestamp()")
            .fetch_one(&mut shop.connect().await?)
            .await?;
    ensure!(leases == 0, "{leases} shards were not given back");
    Ok(())
}

#[tokio::test]
async fn one_process_can_run_every_role() -> Result<()> {
    let shop = Shop::open().await?;
    let mut all = shop.start("all").await?;
    let product = shop.product("all-in-one", 2).await?;
    shop.succeed(Method::POST, &format!("/api/v1/like/products/{product}"), None).await?;
    let (status, answer) = shop.order(product, 2).await?;
    ensure!(status < 300, "{answer}");
    shop.shows(product, 1, 2).await?;
    ensure!(shop.listed(product).await?["soldOut"] == true);
    let (status, answer) = shop.order(product, 1).await?;
    ensure!(status == 409 && answer["meta"]["errorCode"] == "SOLD_OUT", "{status} {answer}");
    shop.verify()?;
    all.terminate()?;
    let status = all.ended().await?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}
