//! What buyers see: the newest known stock, counts, lists.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use product_cache::{CacheError, Card, Invalidation, LocalCache, Lookup, ProductCache};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Executor;
use testkit::eventually;
use tokio::sync::Semaphore;

use crate::harness::{Choices, TestShop, api_settings, local_cache, send};
use crate::live::Watched;

/// A cache whose fills wait until the test lets them pass: a slow reader.
struct SlowFills {
    cache: LocalCache,
    passes: Semaphore,
    waiting: Semaphore,
}

#[async_trait]
impl ProductCache for SlowFills {
    async fn read(&self, ids: &[i64]) -> Result<Vec<Lookup>, CacheError> {
        self.cache.read(ids).await
    }

    async fn fill(&self, cards: &[Card]) -> Result<(), CacheError> {
        self.waiting.add_permits(1);
        self.passes.acquire().await.expect("never closed").forget();
        self.cache.fill(cards).await
    }

    async fn invalidate(&self, invalidations: &[Invalidation]) -> Result<(), CacheError> {
        self.cache.invalidate(invalidations).await
    }
}

/// A cache that is away.
struct Away;

#[async_trait]
impl ProductCache for Away {
    async fn read(&self, _ids: &[i64]) -> Result<Vec<Lookup>, CacheError> {
        Err(CacheError::TimedOut)
    }

    async fn fill(&self, _cards: &[Card]) -> Result<(), CacheError> {
        Err(CacheError::TimedOut)
    }

    async fn invalidate(&self, _invalidations: &[Invalidation]) -> Result<(), CacheError> {
        Err(CacheError::TimedOut)
    }
}

#[tokio::test]
async fn a_page_shows_the_product_and_its_counts() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[3, 0]).await?;
    sqlx::query(
        "insert into metrics.product_metrics (product_id, like_count, sales_count, sales_amount, view_count)
         values ($1, 4, 5, 500, 6)",
    )
    .bind(products[0])
    .execute(&mut shop.connect().await?)
    .await?;
    let shown = shop.show(products[0]).await?;
    assert_eq!(shown.body["meta"], json!({ "result": "SUCCESS", "errorCode": null, "message": null }));
    let mut expected = json!({
        "productId": products[0], "name": "컵", "brand": null, "price": 100, "soldOut": false,
        "likeCount": 4, "salesCount": 5, "viewCount": 6, "stale": false, "rank": null,
    });
    expected["code"] = shown.data()["code"].clone();
    assert_eq!(shown.data(), &expected);
    let sold_out = shop.show(products[1]).await?;
    assert_eq!(sold_out.data()["soldOut"], json!(true), "sold out from its creation");
    assert_eq!(sold_out.data()["likeCount"], json!(0));
    Ok(())
}

#[tokio::test]
async fn a_tombstone_is_shown_at_once_whatever_the_card_says() -> anyhow::Result<()> {
    let cache = Arc::new(local_cache()?);
    let shop = TestShop::start_with(Choices { cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let product = shop.products(&[3]).await?[0];
    assert_eq!(shop.show(product).await?.data()["soldOut"], json!(false));
    eventually("the card is cached", async || Ok(cache.read(&[product]).await?[0].card.clone())).await?;
    // What the streamer does when it has applied a later event; the table still says available.
    cache.invalidate(&[Invalidation { product_id: product, version: 9, sold_out: true }]).await?;
    for _ in 0..3 {
        assert_eq!(shop.show(product).await?.data()["soldOut"], json!(true));
    }
    let listed = send(shop.request(Method::GET, "/api/v1/products")).await?;
    assert_eq!(listed.data()["items"][0]["soldOut"], json!(true));
    Ok(())
}

#[tokio::test]
async fn a_slow_fill_cannot_put_an_available_card_back() -> anyhow::Result<()> {
    let slow =
        Arc::new(SlowFills { cache: local_cache()?, passes: Semaphore::new(0), waiting: Semaphore::new(0) });
    let shop = TestShop::start_with(Choices { cache: slow.clone(), ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    assert_eq!(shop.show(product).await?.data()["soldOut"], json!(false));
    slow.waiting.acquire().await?.forget();

    // The fill holds version 1, while the last unit is sold and the streamer invalidates.
    assert_eq!(shop.order(7, &[(product, 1)]).await?.status, StatusCode::CREATED);
    let depleted = shop.events().await?.into_iter().find(|event| event.event_type == "StockDepleted");
    let version = depleted.and_then(|event| event.aggregate_version).unwrap_or_default();
    slow.invalidate(&[Invalidation { product_id: product, version, sold_out: true }]).await?;
    slow.passes.add_permits(1_000);

    assert_eq!(shop.show(product).await?.data()["soldOut"], json!(true));
    let filled = async || Ok(slow.cache.read(&[product]).await?[0].card.clone());
    let card = eventually("the card of the new version is cached", filled).await?;
    assert_eq!((card.stock_version, card.sold_out), (version, true));
    assert_eq!(shop.show(product).await?.data()["soldOut"], json!(true));
    Ok(())
}

#[tokio::test]
async fn without_a_cache_pages_come_from_the_database_in_few_reads() -> anyhow::Result<()> {
    let shop = TestShop::start_with(Choices { cache: Arc::new(Away), ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    let pages = try_join_all((0..100).map(|_| shop.show(product))).await?;
    assert!(pages.iter().all(|page| page.status == StatusCode::OK));
    assert!(pages.iter().all(|page| page.data()["soldOut"] == json!(false)));
    Ok(())
}

/// Lets the database count its reads of cards: the table becomes a view that draws a number for each.
const COUNT_CARD_READS: &str = "
    alter table shop.product rename to kept;
    create sequence shop.reads minvalue 0;
    create view shop.product as
        with read as materialized (select nextval('shop.reads'))
        select kept.* from shop.kept, read;
    select nextval('shop.reads')";

#[tokio::test]
async fn a_thousand_misses_are_the_read_that_runs_and_one_for_all_who_came_meanwhile() -> anyhow::Result<()> {
    for is_away in [false, true] {
        let cache = Watched::new()?;
        cache.is_away.store(is_away, Ordering::SeqCst);
        let mut api = api_settings();
        (api.concurrency_max, api.read_batch_max) = (2_000, 1_000);
        let shop =
            TestShop::start_with(Choices { api, cache: cache.clone(), ..Choices::ordinary()? }).await?;
        let product = shop.products(&[1]).await?[0];
        shop.connect().await?.execute(COUNT_CARD_READS).await?;
        // Holds the first read, so that nobody finds a card in the cache.
        let mut blocker = shop.connect().await?;
        blocker.execute("begin; lock table shop.kept in access exclusive mode").await?;
        let pages = try_join_all((0..1_000).map(|_| shop.show(product)));
        let release = async {
            let all = async || Ok((cache.reads() == 1_000).then_some(()));
            eventually("all have missed", all).await?;
            shop.writer_waits().await?;
            blocker.execute("commit").await?;
            anyhow::Ok(())
        };
        let (pages, ()) = tokio::try_join!(pages, release)?;
        assert!(pages.iter().all(|page| page.status == StatusCode::OK));
        let reads = shop.number("select last_value from shop.reads").await?;
        assert!((1..=2).contains(&reads), "{reads} reads, cache away: {is_away}");
    }
    Ok(())
}

#[tokio::test]
async fn without_counts_pages_are_served_and_say_so() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    shop.connect().await?.execute("drop table metrics.product_metrics").await?;
    let shown = shop.show(product).await?;
    assert_eq!((shown.status, &shown.data()["likeCount"]), (StatusCode::OK, &Value::Null));
    assert_eq!(shown.data()["stale"], false, "nothing is shown that could be");
    assert_eq!(shown.view_recorded.as_deref(), Some("true"));
    let listed = send(shop.request(Method::GET, "/api/v1/products?sort=likes_desc")).await?;
    assert_eq!(listed.ids(), [product]);
    assert_eq!(listed.data()["sort"], "latest", "the order of likes cannot be had");
    Ok(())
}

#[tokio::test]
async fn counts_are_remembered_no_longer_than_their_age() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.counts_age_max = Duration::from_millis(200);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    sqlx::query("insert into metrics.product_metrics (product_id, like_count) values ($1, 1)")
        .bind(product)
        .execute(&mut shop.connect().await?)
        .await?;
    assert_eq!(shop.show(product).await?.data()["likeCount"], json!(1));
    shop.connect().await?.execute("update metrics.product_metrics set like_count = 2").await?;
    let newer = async || Ok((shop.show(product).await?.data()["likeCount"] == json!(2)).then_some(()));
    eventually("the newer count is shown", newer).await
}

#[tokio::test]
async fn products_are_created_all_or_none() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let create = async |codes: &[&str]| {
        let products: Vec<Value> =
            codes.iter().map(|code| json!({ "code": code, "name": code, "price": 1, "stock": 0 })).collect();
        let request = shop.as_admin(Method::POST, "/api-admin/v1/products/bulk");
        send(request.json(&json!({ "products": products }))).await
    };
    // Distinct by exact bytes; ids in the order of the request.
    let created = create(&["b", "a", "B", "é", "e\u{301}"]).await?;
    assert_eq!(created.status, StatusCode::CREATED);
    let new: Vec<i64> = serde_json::from_value(created.data()["productIds"].clone())?;
    assert!(new.is_sorted(), "{new:?}");
    let taken = create(&["c", "a"]).await?;
    assert_eq!((taken.status, taken.code()), (StatusCode::CONFLICT, "CODE_TAKEN"));
    assert_eq!(taken.data()["codes"], json!(["a"]));
    assert_eq!(shop.number("select count(*) from shop.product").await?, 5);
    assert_eq!(shop.number("select count(*) from shop.stock").await?, 5);

    let one = shop.as_admin(Method::POST, "/api-admin/v1/products");
    let one =
        send(one.json(&json!({ "code": "c", "name": "<b>'; drop table--", "price": 0, "stock": 1 }))).await?;
    let shown = shop.show(one.data()["productId"].as_i64().unwrap_or_default()).await?;
    assert_eq!(shown.data()["name"], "<b>'; drop table--");
    Ok(())
}

#[tokio::test]
async fn a_thousand_products_are_created_at_once() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    assert_eq!(shop.products(&vec![1; 1_000]).await?.len(), 1_000);
    assert!(shop.events().await?.is_empty(), "nothing changed for a consumer");
    Ok(())
}
