//! Limits that are reached, and requests that are given up.

use std::time::Duration;

use commerce_api::{ApiSettings, RankingSettings};
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::Executor;
use testkit::eventually;

use crate::harness::{Choices, TestShop, api_settings, ranking_settings, send};

#[tokio::test]
async fn one_request_more_than_the_limit_is_refused_for_now() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.concurrency_max = 1;
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[5]).await?[0];
    let mut blocker = shop.hold("shop.stock").await?;
    let blocked = shop.order(7, &[(product, 1)]);
    let refused = async {
        let refused = async || {
            let answer = shop.like(8, product).await?;
            Ok((answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(answer))
        };
        let refused = eventually("the only place is taken", refused).await?;
        blocker.execute("commit").await?;
        anyhow::Ok(refused)
    };
    let (blocked, refused) = tokio::try_join!(blocked, refused)?;
    assert_eq!(blocked.status, StatusCode::CREATED);
    assert_eq!((refused.code(), refused.retry_after.as_deref()), ("OVERLOADED", Some("1")));
    Ok(())
}

#[tokio::test]
async fn each_limit_of_a_request_is_the_one_that_is_set() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.order_lines_max = 2;
    api.order_quantity_max = 3;
    api.idempotency_key_bytes_max = 4;
    (api.product_code_bytes_max, api.product_name_bytes_max, api.brand_bytes_max) = (5, 6, 7);
    (api.price_max, api.stock_max) = (8, 9);
    api.search_bytes_max = 10;
    (api.page_size_default, api.page_size_max, api.page_depth_max) = (2, 3, 6);
    (api.body_bytes_max, api.bulk_body_bytes_max, api.bulk_products_max) = (200, 300, 2);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let create = |code: &str, name: &str, brand: &str, price: i64, stock: i64| {
        let body = json!({ "code": code, "name": name, "brand": brand, "price": price, "stock": stock });
        send(shop.as_admin(Method::POST, "/api-admin/v1/products").json(&body))
    };
    let product = create("12345", "123456", "1234567", 8, 9).await?;
    let product = product.data()["productId"].as_i64().unwrap_or_default();
    let order = |items: &[(i64, i64)], key| send(shop.order_request(7, items).header("idempotency-key", key));
    assert_eq!(order(&[(product, 1), (product, 2)], "1234").await?.status, StatusCode::CREATED);
    assert_eq!(shop.list("q=1234567890&brand=1234567&page=1&size=3").await?.status, StatusCode::OK);

    let bulk = |products: usize, name: &str| {
        let products = vec![json!({ "code": "c", "name": name, "price": 1, "stock": 1 }); products];
        let request = shop.as_admin(Method::POST, "/api-admin/v1/products/bulk");
        send(request.json(&json!({ "products": products })))
    };
    for (answer, code) in [
        (create("123456", "n", "b", 1, 1).await?, "INVALID_CODE"),
        (create("c", "1234567", "b", 1, 1).await?, "INVALID_NAME"),
        (create("c", "n", "12345678", 1, 1).await?, "INVALID_BRAND"),
        (create("c", "n", "b", 9, 1).await?, "INVALID_PRICE"),
        (create("c", "n", "b", 1, 10).await?, "INVALID_STOCK"),
        (create("c", &"n".repeat(200), "b", 1, 1).await?, "BODY_TOO_LARGE"),
        (bulk(3, "n").await?, "TOO_MANY_PRODUCTS"),
        (bulk(2, &"n".repeat(150)).await?, "BODY_TOO_LARGE"),
        (order(&[(product, 1); 3], "k").await?, "TOO_MANY_LINES"),
        (order(&[(product, 4)], "k").await?, "INVALID_QUANTITY"),
        (order(&[(product, 2), (product, 2)], "k").await?, "INVALID_QUANTITY"),
        (order(&[(product, 1)], "12345").await?, "INVALID_IDEMPOTENCY_KEY"),
        (shop.list("q=12345678901").await?, "INVALID_SEARCH"),
        (shop.list("brand=12345678").await?, "INVALID_BRAND"),
        (shop.list("size=4").await?, "INVALID_PAGE"),
        (shop.list("page=3").await?, "INVALID_PAGE"),
        (shop.list("page=2&size=3").await?, "INVALID_PAGE"),
    ] {
        assert_eq!(answer.code(), code, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_free_connection_a_request_is_refused_for_now() -> anyhow::Result<()> {
    let shop = TestShop::start_with(Choices { connections_max: 1, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[5]).await?[0];
    let taken = shop.pool.get().await?;
    shop.pool.close();
    drop(taken);
    let answer = shop.like(7, product).await?;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
    assert!(answer.retry_after.is_some());
    Ok(())
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_and_changes_nothing() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.view_wait = Duration::from_millis(10);
    api.view_commit_wait = Duration::from_millis(10);
    api.request_timeout = Duration::from_millis(300);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    sqlx::raw_sql(
        "insert into shop.product (code, name, price) values ('c', 'n', 1);
         insert into shop.stock (product_id, quantity) select id, 1 from shop.product",
    )
    .execute(&mut shop.connect().await?)
    .await?;
    let mut blocker = shop.hold("shop.stock").await?;
    let answer = shop.order(7, &[(1, 1)]).await?;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "TIMED_OUT"));
    blocker.execute("commit").await?;
    no_transaction_is_left_open(&shop).await?;
    assert_eq!(shop.stock(1).await?, (1, 1));
    assert!(shop.events().await?.is_empty());
    Ok(())
}

/// No connection of the api is in a transaction.
async fn no_transaction_is_left_open(shop: &TestShop) -> anyhow::Result<()> {
    eventually("the api's transactions have ended", async || {
        let open = shop
            .number(
                "select count(*) from pg_stat_activity
                  where datname = current_database() and application_name = 'test-api' and xact_start is not null",
            )
            .await?;
        Ok((open == 0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_cancelled_request_leaves_no_open_transaction() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    for cancelled_after in (0..12).map(Duration::from_millis) {
        let mut blocker = shop.hold("shop.stock").await?;
        // The client goes away somewhere between its first byte and the wait for the lock.
        let request = shop.order_request(7, &[(product, 1)]).timeout(cancelled_after);
        assert!(send(request).await.is_err());
        blocker.execute("commit").await?;
    }
    // Nothing else uses the pool meanwhile: a transaction that waits for the next user would stay open.
    no_transaction_is_left_open(&shop).await?;
    let sold = shop.number("select count(*) from shop.orders").await?;
    assert_eq!(shop.stock(product).await?.0, 5 - sold, "each one whole or not at all");
    let answer = shop.order(7, &[(product, 1)]).await?;
    assert!(matches!(answer.status, StatusCode::CREATED | StatusCode::CONFLICT), "the pool is usable");
    Ok(())
}

#[test]
fn a_number_or_a_time_that_cannot_be_worked_with_is_refused_at_start() {
    let refused = |choose: fn(&mut ApiSettings)| {
        let mut api = api_settings();
        choose(&mut api);
        api.validate().err().map(|error| error.key)
    };
    assert_eq!(refused(|api| (api.connections_max, api.order_batch_max) = (1_000_000, 1_000_000)), None);
    assert_eq!(refused(|api| api.concurrency_max = usize::MAX), Some("api.concurrency_max"));
    assert_eq!(refused(|api| api.live_watchers_max = 1_000_001), Some("api.live_watchers_max"));
    assert_eq!(refused(|api| api.order_batch_max = usize::MAX), Some("api.order_batch_max"));
    assert_eq!(refused(|api| api.read_queue_max = usize::MAX), Some("api.read_queue_max"));
    let for_ever =
        |api: &mut ApiSettings| (api.view_wait, api.view_commit_wait) = (Duration::MAX, Duration::MAX);
    assert_eq!(refused(for_ever), Some("api.request_timeout"));
    let ages = Some("api.counts_stale_max and api.count_order_age_max");
    assert_eq!(refused(|api| api.counts_stale_max = Duration::MAX), ages);
    assert_eq!(refused(|api| api.count_order_age_max = Duration::MAX), ages);
    let rankings = RankingSettings { age_max: Duration::MAX, ..ranking_settings() };
    assert_eq!(rankings.validate(1).err().map(|error| error.key), Some("rankings.age_max"));
}
