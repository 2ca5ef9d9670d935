//! Redis away, silent, slow or emptied: counting goes on, and sold out is shown afterwards.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use testkit::{Line, Proxy, eventually};

use crate::harness::Shop;
use crate::watcher::balanced;

/// A way to Redis that can be disturbed, and its URL.
fn way_to_redis() -> Result<(Proxy, String)> {
    let redis = testkit::redis_url()?;
    let address = redis.trim_start_matches("redis://").parse().with_context(|| redis.clone())?;
    let proxy = Proxy::start(address)?;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    Ok((proxy, url))
}

#[tokio::test]
async fn a_cache_that_is_away_silent_or_slow_delays_no_count_and_hides_no_sold_out() -> Result<()> {
    let shop = Shop::open().await?;
    Box::pin(balanced(&shop, disturb(&shop))).await
}

async fn disturb(shop: &Shop) -> Result<()> {
    let (proxy, url) = way_to_redis()?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
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

/// Takes cards, tombstones and scripts away, as a restart without persistence does.
async fn empty_cache(shop: &Shop) -> Result<()> {
    let mut connection =
        redis::Client::open(testkit::redis_url()?)?.get_multiplexed_async_connection().await?;
    let pattern = format!("{}*", shop.topics.prefix());
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await?;
    ensure!(!keys.is_empty(), "nothing was cached");
    let _: () = redis::cmd("DEL").arg(keys).query_async(&mut connection).await?;
    Ok(redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await?)
}

#[tokio::test]
async fn a_cache_that_begins_anew_empty_delays_no_count_and_hides_no_sold_out() -> Result<()> {
    let shop = Shop::open().await?;
    Box::pin(balanced(&shop, begin_anew(&shop))).await
}

async fn begin_anew(shop: &Shop) -> Result<()> {
    let (proxy, url) = way_to_redis()?;
    let variables = [("COMMERCE_REDIS_URL", url.as_str())];
    let mut api = shop.spawn_with("api", &variables)?;
    let _relay = shop.start("relay").await?;
    let mut streamer = shop.spawn_with("streamer", &variables)?;
    shop.ready(&mut api).await?;
    shop.ready(&mut streamer).await?;
    let is_sold_out = async |product: i64| -> Result<bool> {
        let page = format!("/api/v1/products/{product}");
        Ok(shop.succeed(Method::GET, &page, None).await?["soldOut"] == true)
    };
    let (before, during) = (shop.product("before", 1).await?, shop.product("during", 1).await?);
    ensure!(!is_sold_out(before).await? && !is_sold_out(during).await?, "both are available");
    shop.order(before, 1).await?;
    shop.shows(before, 0, 1).await?;
    eventually("the cache knows", async || Ok(is_sold_out(before).await?.then_some(()))).await?;
    proxy.set(Line::Cut);
    empty_cache(shop).await?;
    shop.order(during, 1).await?;
    shop.shows(during, 0, 1).await?;
    proxy.set(Line::Up);
    for product in [before, during] {
        // At once: what is not in the cache is asked of the database.
        ensure!(is_sold_out(product).await?, "product {product} is shown as available");
    }
    let after = shop.product("after", 1).await?;
    ensure!(!is_sold_out(after).await?, "it is available");
    shop.order(after, 1).await?;
    shop.shows(after, 0, 1).await?;
    eventually("the cache is told again", async || Ok(is_sold_out(after).await?.then_some(()))).await?;
    shop.verify()
}

/// While the cache is away, batches do not wait for it any more once the breaker is open, and the sweeper repays all.
#[tokio::test]
async fn a_breaker_leaves_invalidations_to_the_sweeper_until_the_cache_answers() -> Result<()> {
    let shop = Shop::open().await?;
    Box::pin(balanced(&shop, open_and_close_breaker(&shop))).await
}

async fn open_and_close_breaker(shop: &Shop) -> Result<()> {
    let (proxy, url) = way_to_redis()?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let variables = [
        ("COMMERCE_REDIS_URL", url.as_str()),
        ("COMMERCE_STREAMER_CACHE_FAILURES_MAX", "2"),
        ("COMMERCE_STREAMER_CACHE_PAUSE", "2s"),
        // Invalidations after a commit that work are never the sweeper's.
        ("COMMERCE_SWEEPER_AGE", "2s"),
    ];
    let mut streamer = shop.spawn_with("streamer", &variables)?;
    shop.ready(&mut streamer).await?;
    let metric = async |name: &str| shop.metric(&streamer, name).await;
    for line in [Line::Cut, Line::Frozen] {
        proxy.set(line);
        let mut sold_out = Vec::new();
        // Each on its own, so that each is a batch that tries for itself.
        eventually("the breaker is open", async || {
            let product = shop.product(&format!("{line:?}{}", sold_out.len()), 1).await?;
            // Puts an available card into the cache, which nothing but an invalidation can take out in time.
            let page = format!("/api/v1/products/{product}");
            let shown = shop.succeed(Method::GET, &page, None).await?;
            ensure!(shown["soldOut"] == false, "{shown}");
            let (status, answer) = shop.order(product, 1).await?;
            ensure!(status < 300, "{answer}");
            shop.shows(product, 0, 1).await?;
            sold_out.push(product);
            Ok((metric("commerce_cache_breaker_state").await? == Some(2.0)).then_some(()))
        })
        .await
        .with_context(|| format!("{line:?}"))?;
        eventually("what is owed is told while it cannot be done", async || {
            let owed = metric("commerce_cache_intents_owed").await?.unwrap_or_default();
            let age = metric("commerce_cache_intents_oldest_age_seconds").await?.unwrap_or_default();
            Ok((owed >= 1.0 && age > 0.0).then_some(()))
        })
        .await?;
        proxy.set(Line::Up);
        for product in sold_out {
            let page = format!("/api/v1/products/{product}");
            eventually("the product page says sold out", async || {
                let shown = shop.succeed(Method::GET, &page, None).await?;
                Ok((shown["soldOut"] == true).then_some(()))
            })
            .await
            .with_context(|| format!("{line:?}"))?;
        }
        eventually("nothing is owed", async || {
            let owed = metric("commerce_cache_intents_owed").await?;
            let age = metric("commerce_cache_intents_oldest_age_seconds").await?;
            Ok((owed == Some(0.0) && age == Some(0.0)).then_some(()))
        })
        .await?;
        // One batch after the pause is the trial.
        let mut count = 0;
        eventually("the breaker is closed", async || {
            let product = shop.product(&format!("{line:?}-after{count}"), 1).await?;
            count += 1;
            let (status, answer) = shop.order(product, 1).await?;
            ensure!(status < 300, "{answer}");
            shop.shows(product, 0, 1).await?;
            Ok((metric("commerce_cache_breaker_state").await? == Some(0.0)).then_some(()))
        })
        .await?;
    }
    ensure!(metric("commerce_cache_invalidations_left_total").await? >= Some(4.0), "none was left");
    shop.verify()
}
