//! Redis away, silent or slow: counting goes on, and sold out is shown afterwards.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use testkit::{Line, Proxy, eventually};

use crate::harness::Shop;

#[tokio::test]
async fn a_cache_that_is_away_silent_or_slow_delays_no_count_and_hides_no_sold_out() -> Result<()> {
    let shop = Shop::open().await?;
    let redis = testkit::redis_url()?;
    let address = redis.trim_start_matches("redis://").parse().with_context(|| redis.clone())?;
    let proxy = Proxy::start(address).await?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    // Only the streamer's way to the cache is disturbed: the buyer goes on reading cards.
    let mut streamer = shop.spawn_with("streamer", &[("COMMERCE_REDIS_URL", &url)])?;
    shop.ready(&mut streamer).await?;
    for line in [Line::Cut, Line::Frozen, Line::Slow] {
        let product = shop.product(&format!("{line:?}"), 1).await?;
        let page = format!("/api/v1/products/{product}");
        let shown = shop.succeed(Method::GET, &page, None).await?;
        ensure!(shown["soldOut"] == false, "{shown}");
        proxy.set(line);
        let (status, answer) = shop.order(product, 1).await?;
        ensure!(status < 300, "{answer}");
        shop.shows(product, 0, 1).await.with_context(|| format!("{line:?}"))?;
        proxy.set(Line::Up);
        eventually("the product page says sold out", async || {
            let shown = shop.succeed(Method::GET, &page, None).await?;
            Ok((shown["soldOut"] == true).then_some(()))
        })
        .await
        .with_context(|| format!("{line:?}"))?;
    }
    shop.verify()
}
