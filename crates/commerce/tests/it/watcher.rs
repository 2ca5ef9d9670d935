//! Promise P8, asked in a snapshot five times a second while roles are killed and services disturbed.

use anyhow::{Result, ensure};
use commerce_workload::verify::{Check, check_books};
use reqwest::Method;
use sqlx::Connection as _;
use testkit::{eventually, watched};

use crate::harness::Shop;

/// Does `doing`; fails with the first equation that does not hold meanwhile.
pub(crate) async fn balanced<T>(shop: &Shop, doing: impl Future<Output = Result<T>>) -> Result<T> {
    watched(async || look(shop).await, doing).await
}

async fn look(shop: &Shop) -> Result<()> {
    let mut connection = shop.connect().await?;
    let mut snapshot = connection.begin_with("begin isolation level repeatable read").await?;
    let checks = check_books(&mut snapshot, shop.topics.prefix()).await?;
    let broken: Vec<&Check> = checks.iter().filter(|check| !check.holds()).collect();
    ensure!(broken.is_empty(), "promise P8 is broken in a snapshot: {broken:?}");
    Ok(())
}

/// A damage, how it is mended, and what is complained about meanwhile.
const DAMAGES: [[&str; 3]; 6] = [
    [
        "update inbox.progress set handled = handled + 1",
        "update inbox.progress set handled = handled - 1",
        "offsets advanced = handled + duplicates",
    ],
    [
        "update inbox.progress set handled = handled + 1, next_offset = next_offset + 1",
        "update inbox.progress set handled = handled - 1, next_offset = next_offset - 1",
        "handled + settled by letters = bits set + ids",
    ],
    [
        "update inbox.progress set dead_lettered = 1, skipped = -1",
        "update inbox.progress set dead_lettered = 0, skipped = 0",
        "dead letters counted = rows",
    ],
    [
        "update metrics.applied set events = events + 1",
        "update metrics.applied set events = events - 1",
        "events handled = events applied",
    ],
    [
        "update metrics.applied set units = units + 1",
        "update metrics.applied set units = units - 1",
        "likes applied = sum of like_count",
    ],
    [
        "update metrics.product_metrics set sales_count = 1",
        "update metrics.product_metrics set sales_count = 0",
        "units applied = sum of sales_count",
    ],
];

#[tokio::test]
async fn a_counter_that_is_damaged_is_noticed() -> Result<()> {
    let shop = Shop::open().await?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let streamer = shop.start("streamer").await?;
    let product = shop.product("damaged", 10).await?;
    let liked = async {
        shop.succeed(Method::POST, &format!("/api/v1/like/products/{product}"), None).await?;
        shop.shows(product, 1, 0).await
    };
    balanced(&shop, liked).await?;
    drop(streamer);
    let mut connection = shop.connect().await?;
    for [damage, mending, complaint] in DAMAGES {
        let damaging = async {
            sqlx::query(damage).execute(&mut connection).await?;
            eventually("somebody notices", async || Ok(None::<()>)).await
        };
        let error = balanced(&shop, damaging).await.unwrap_err().to_string();
        ensure!(error.contains(complaint), "after {damage:?}: {error}");
        sqlx::query(mending).execute(&mut connection).await?;
    }
    look(&shop).await
}
