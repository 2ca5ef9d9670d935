//! Limits that are reached, and requests that are given up.

use std::time::Duration;

use reqwest::StatusCode;
use sqlx::Executor;
use testkit::eventually;

use crate::harness::{Choices, TestShop, api_settings, send};

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
