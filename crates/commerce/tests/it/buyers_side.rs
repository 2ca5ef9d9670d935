//! What buyers do comes back to them in lists and rankings, through every role, from a counts' database of its own.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::harness::Shop;

fn ids(page: &Value) -> Vec<i64> {
    let items = page["items"].as_array();
    items.into_iter().flatten().filter_map(|item| item["productId"].as_i64()).collect()
}

#[tokio::test]
async fn what_buyers_do_is_sorted_and_ranked_from_a_database_of_its_own() -> Result<()> {
    let shop = Shop::open_with_counts_apart().await?;
    let fresh = [("COMMERCE_RANKINGS_AGE_MAX", "10ms"), ("COMMERCE_API_COUNT_ORDER_AGE_MAX", "10ms")];
    let mut api = shop.spawn_with("api", &fresh)?;
    shop.ready(&mut api).await?;
    let _relay = shop.start("relay").await?;
    let _streamer = shop.start("streamer").await?;
    let (bought, liked, ignored) = (
        shop.product("bought", 9).await?,
        shop.product("liked", 9).await?,
        shop.product("ignored", 9).await?,
    );
    let (status, answer) = shop.order(bought, 2).await?;
    ensure!(status == 201, "{status} {answer}");
    shop.succeed(Method::POST, &format!("/api/v1/like/products/{liked}"), None).await?;
    shop.shows(bought, 0, 2).await?;
    shop.shows(liked, 1, 0).await?;

    for (list, expected) in [
        ("products?sort=sales_desc", vec![bought, ignored, liked]),
        ("products?sort=likes_desc", vec![liked, ignored, bought]),
        ("products?sort=sales_desc&q=IGN", vec![ignored]),
        // 0.6 ln 2001, and 0.2 for a like.
        ("rankings", vec![bought, liked]),
        ("rankings?period=monthly", vec![bought, liked]),
    ] {
        let path = format!("/api/v1/{list}");
        eventually(list, async || {
            let page = shop.succeed(Method::GET, &path, None).await?;
            Ok((ids(&page) == expected).then_some(()))
        })
        .await?;
    }
    let page = format!("/api/v1/products/{bought}");
    let shown = shop.succeed(Method::GET, &page, None).await?;
    ensure!(shown["rank"] == 1, "{shown}");

    // The card is in Redis by now.
    let change = json!({ "name": "dearer", "price": 2_000, "brand": "Acme" });
    shop.succeed(Method::PATCH, &format!("/api-admin/v1/products/{bought}"), Some(change)).await?;
    let shown = shop.succeed(Method::GET, &page, None).await?;
    ensure!(shown["name"] == "dearer" && shown["price"] == 2_000 && shown["brand"] == "Acme", "{shown}");
    shop.verify()
}

#[tokio::test]
async fn the_document_comes_with_the_binary() -> Result<()> {
    let shop = Shop::open().await?;
    let _api = shop.start("api").await?;
    let (status, document) = shop.send(Method::GET, "/openapi.json", None).await?;
    let paths = document["paths"].as_object().context("no paths")?;
    ensure!(status == 200 && paths.contains_key("/api/v1/rankings"), "{status} {paths:?}");
    Ok(())
}
