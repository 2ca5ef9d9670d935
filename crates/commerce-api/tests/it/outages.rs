//! P9: a page is never refused because counting is down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use product_cache::{Invalidation, ProductCache};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use testkit::{TestDatabase, eventually};

use crate::harness::{Choices, TestShop, api_settings, local_cache, send};
use crate::live::{Events, Watched};

/// Lets nobody in any more and sends everybody away.
pub(crate) async fn close(database: &TestDatabase) -> anyhow::Result<()> {
    let mut server = PgConnection::connect(&std::env::var("COMMERCE_DATABASE_URL")?).await?;
    let options = database.options();
    let name = options.get_database().unwrap_or_default();
    server.execute(sqlx::AssertSqlSafe(format!("alter database {name} allow_connections false"))).await?;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
        .bind(name)
        .execute(&mut server)
        .await?;
    Ok(())
}

pub(crate) async fn open(database: &TestDatabase) -> anyhow::Result<()> {
    let mut server = PgConnection::connect(&std::env::var("COMMERCE_DATABASE_URL")?).await?;
    let options = database.options();
    let name = options.get_database().unwrap_or_default();
    server.execute(sqlx::AssertSqlSafe(format!("alter database {name} allow_connections true"))).await?;
    Ok(())
}

#[tokio::test]
async fn without_the_database_pages_come_from_the_cache_and_views_are_said_to_be_lost() -> anyhow::Result<()>
{
    let cache = Arc::new(local_cache()?);
    let mut api = api_settings();
    api.view_wait = Duration::from_millis(50);
    let shop = TestShop::start_with(Choices { api, cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let products = shop.products(&[5, 5]).await?;
    // On a busy machine the writer may need longer than its 50 ms for the first ones.
    let before = eventually("a view is recorded", async || {
        let page = shop.show(products[0]).await?;
        Ok((page.view_recorded.as_deref() == Some("true")).then_some(page))
    })
    .await?;
    eventually("the card is cached", async || Ok(cache.read(&[products[0]]).await?[0].card.clone())).await?;

    close(&shop.database).await?;
    for _ in 0..3 {
        let page = shop.show(products[0]).await?;
        assert_eq!((page.status, page.view_recorded.as_deref()), (StatusCode::OK, Some("false")));
        assert_eq!(page.data()["name"], before.data()["name"]);
        assert_eq!((&page.data()["likeCount"], &page.data()["stale"]), (&json!(0), &json!(true)));
    }
    for refused in [shop.show(products[1]).await?, shop.like(7, products[0]).await?] {
        assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
        assert!(refused.retry_after.is_some());
        assert!(!refused.body.to_string().contains("database"), "nothing of the cause: {refused:?}");
    }

    open(&shop.database).await?;
    let back = async || {
        Ok(Some(shop.show(products[0]).await?).filter(|page| page.view_recorded.as_deref() == Some("true")))
    };
    let page = eventually("views are recorded again", back).await?;
    assert_eq!((&page.data()["likeCount"], &page.data()["stale"]), (&json!(0), &json!(false)));
    Ok(())
}

#[tokio::test]
async fn a_cache_that_does_not_answer_is_left_out_and_used_again_after_a_pause() -> anyhow::Result<()> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let breaker = |state: u8| {
        let metrics = recorder.handle().render();
        assert!(metrics.contains(&format!("http_cache_breaker_state {state}\n")), "{state}: {metrics}");
    };
    // A pause that is not over during the test, and one that is over at once.
    for pause in [Duration::from_secs(3_600), Duration::ZERO] {
        let cache = Watched::new()?;
        let mut api = api_settings();
        (api.cache_failures_max, api.cache_pause) = (2, pause);
        let shop =
            TestShop::start_with(Choices { api, cache: cache.clone(), ..Choices::ordinary()? }).await?;
        let product = shop.products(&[1]).await?[0];
        let is_sold_out = async || anyhow::Ok(shop.show(product).await?.data()["soldOut"].clone());
        breaker(0);
        cache.is_away.store(true, Ordering::SeqCst);
        for _ in 0..12 {
            assert_eq!(is_sold_out().await?, false, "the database knows");
        }
        breaker(2);
        // Reads, and the fills behind them.
        let unanswered = cache.unanswered();
        assert!(if pause.is_zero() { unanswered >= 12 } else { unanswered == 2 }, "{pause:?}: {unanswered}");
        cache.is_away.store(false, Ordering::SeqCst);
        // What only the cache says tells who is asked.
        cache.invalidate(&[Invalidation { product_id: product, version: 9, sold_out: true }]).await?;
        assert_eq!(is_sold_out().await?, pause.is_zero(), "{pause:?}");
        breaker(if pause.is_zero() { 0 } else { 2 });
    }
    Ok(())
}

/// Likes and staleness of each product in an answer.
fn likes(items: &Value) -> Vec<(Value, Value)> {
    let items = items.as_array().into_iter().flatten();
    items.map(|item| (item["likeCount"].clone(), item["stale"].clone())).collect()
}

#[tokio::test]
async fn the_last_known_counts_are_shown_as_stale_everywhere_while_counting_is_down() -> anyhow::Result<()> {
    let shop = TestShop::start_with(Choices { metrics_apart: true, ..Choices::ordinary()? }).await?;
    let products = shop.products(&[1, 1]).await?;
    shop.count(products[0], 4, 0, 0).await?;
    shop.like(7, products[0]).await?;
    let (fresh, stale, unknown) =
        ((json!(4), json!(false)), (json!(4), json!(true)), (Value::Null, json!(false)));
    let detail = async || anyhow::Ok(likes(&json!([shop.show(products[0]).await?.data()])).remove(0));
    assert_eq!(detail().await?, fresh);

    close(shop.metrics_database()).await?;
    assert_eq!(detail().await?, stale);
    assert_eq!(likes(&shop.list("").await?.data()["items"]), [unknown, stale.clone()]);
    let liked = send(shop.as_user(Method::GET, "/api/v1/like/products", 7)).await?;
    assert_eq!(likes(&liked.data()["items"]), [stale]);

    open(shop.metrics_database()).await?;
    let back = async || Ok((detail().await? == fresh).then_some(()));
    eventually("counts are read again", back).await
}

#[tokio::test]
async fn counts_that_are_too_old_to_be_shown_as_stale_are_left_out() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.counts_stale_max = Duration::ZERO;
    let shop = TestShop::start_with(Choices { api, metrics_apart: true, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    assert_eq!(shop.show(product).await?.data()["likeCount"], 0);
    close(shop.metrics_database()).await?;
    assert_eq!(likes(&json!([shop.show(product).await?.data()])), [(Value::Null, json!(false))]);
    Ok(())
}

#[tokio::test]
async fn a_stream_outlasts_counting_and_the_cache_and_goes_on_after_them() -> anyhow::Result<()> {
    let cache = Watched::new()?;
    let mut api = api_settings();
    // Read in two parts.
    api.live_read_max = 2;
    let choices = Choices { api, cache: cache.clone(), metrics_apart: true, ..Choices::ordinary()? };
    let shop = TestShop::start_with(choices).await?;
    let products = shop.products(&[1, 1, 1]).await?;
    shop.count(products[0], 4, 0, 0).await?;
    let mut events = Events::open(&shop, &products).await?;
    for product in &products {
        assert_eq!(events.next().await?.map(|state| state["productId"].clone()), Some(json!(product)));
    }
    let sold_out =
        |product: i64| move |state: &Value| state["productId"] == product && state["soldOut"] == true;

    close(shop.metrics_database()).await?;
    cache.invalidate(&[Invalidation { product_id: products[0], version: 9, sold_out: true }]).await?;
    let shown = events.until(sold_out(products[0])).await?;
    assert_eq!((&shown["likeCount"], &shown["stale"]), (&json!(4), &json!(true)), "what was counted last");
    cache.is_away.store(true, Ordering::SeqCst);
    assert_eq!(shop.order(7, &[(products[1], 1)]).await?.status, StatusCode::CREATED);
    events.until(sold_out(products[1])).await?;

    cache.is_away.store(false, Ordering::SeqCst);
    open(shop.metrics_database()).await?;
    shop.count(products[1], 5, 0, 0).await?;
    let counted = events.until(|state| state["likeCount"] == 5 && state["stale"] == false).await?;
    assert_eq!(counted["soldOut"], true, "it stays sold out");
    cache.invalidate(&[Invalidation { product_id: products[2], version: 9, sold_out: true }]).await?;
    events.until(sold_out(products[2])).await?;
    Ok(())
}

#[tokio::test]
async fn a_product_whose_card_cannot_be_read_holds_up_no_other() -> anyhow::Result<()> {
    let cache = Watched::new()?;
    let mut api = api_settings();
    api.counts_wait = Duration::from_millis(50);
    let shop = TestShop::start_with(Choices { api, cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let products = shop.products(&[1, 1]).await?;
    let mut events = Events::open(&shop, &products).await?;
    let mut blocker = shop.connect().await?;
    blocker.execute("begin; lock table shop.product in access exclusive mode").await?;
    let told = |product_id, sold_out| Invalidation { product_id, version: 9, sold_out };
    // Drops the card of the one, and says of the other what it says without any card.
    cache.invalidate(&[told(products[0], false), told(products[1], true)]).await?;
    let shown = events.until(|state| state["soldOut"] == true).await?;
    assert_eq!(shown["productId"], products[1]);
    blocker.execute("rollback").await?;
    Ok(())
}
