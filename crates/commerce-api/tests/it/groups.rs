//! Commands that wait are executed together, and each gets the answer that it would have got alone.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use reqwest::StatusCode;
use sqlx::Executor;
use testkit::eventually;

use crate::harness::{Answer, Choices, TestShop, api_settings, send};

/// Sends `requests` behind one that holds the writer, so that they are executed together.
async fn together<F: Future<Output = anyhow::Result<Answer>>>(
    shop: &TestShop,
    first: F,
    requests: impl IntoIterator<Item = F>,
) -> anyhow::Result<Vec<Answer>> {
    let mut blocker = shop.hold("outbox.event").await?;
    let rest = async {
        shop.writer_waits().await?;
        let requests = try_join_all(requests);
        let release = async {
            // Requests that were sent before these have most likely been queued when these are answered.
            for _ in 0..5 {
                shop.list("").await?;
            }
            blocker.execute("commit").await?;
            anyhow::Ok(())
        };
        let (answers, ()) = tokio::try_join!(requests, release)?;
        anyhow::Ok(answers)
    };
    let (first, rest) = tokio::try_join!(first, rest)?;
    anyhow::ensure!(first.status.is_success(), "{first:?}");
    Ok(rest)
}

fn codes(answers: &[Answer]) -> Vec<&str> {
    answers.iter().map(|answer| if answer.status.is_success() { "" } else { answer.code() }).collect()
}

#[tokio::test]
async fn a_refused_order_fails_alone_among_those_of_its_transaction() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[100, 5, 1]).await?;
    let (many, few, one) = (products[0], products[1], products[2]);
    let first = shop.order(1, &[(many, 1)]);
    let orders = [
        shop.order(2, &[(many, 1), (few, 2)]),
        shop.order(3, &[(one, 1)]),
        shop.order(4, &[(many, 1), (one, 1)]),
        shop.order(5, &[(999_999, 1)]),
        shop.order(6, &[(few, 4)]),
        shop.order(7, &[(few, 3)]),
    ];
    let answers = Box::pin(together(&shop, first, orders)).await?;
    let refused = codes(&answers).into_iter().filter(|code| !code.is_empty()).count();
    assert_eq!(answers[3].code(), "PRODUCT_NOT_FOUND");
    assert_eq!(
        refused, 3,
        "the unknown product, one of two for the last one, one of two for the last three: {answers:?}"
    );
    let placed = 6 - 3 + 1;
    assert_eq!(shop.number("select count(*) from shop.orders").await?, placed);
    let transactions = shop
        .number("select count(distinct txid) from outbox.event where event_type = 'OrderCompleted'")
        .await?;
    assert!(transactions < 1 + placed, "{transactions} transactions for {placed} orders");
    for answer in answers.iter().filter(|answer| answer.status == StatusCode::CREATED) {
        let lines = answer.data()["items"].as_array().map_or(0, Vec::len);
        let id = answer.data()["orderId"].as_i64().unwrap_or_default();
        let stored = format!("select count(*) from shop.order_line where order_id = {id}");
        let stored: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(stored)).fetch_one(&mut shop.connect().await?).await?;
        assert_eq!(usize::try_from(stored)?, lines, "each buyer is told of his own order");
    }
    Ok(())
}

#[tokio::test]
async fn a_hot_product_is_sold_to_the_last_unit_and_not_further() -> anyhow::Result<()> {
    // Without group commit, one by one, and together.
    for batch_max in [0, 1, 200] {
        let mut api = api_settings();
        (api.order_batch_max, api.like_batch_max) = (batch_max, batch_max);
        let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
        let product = shop.products(&[30]).await?[0];
        let answers = try_join_all((1..=80).map(|user| shop.order(user, &[(product, 1)]))).await?;
        let sold = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
        let refused = answers.iter().filter(|answer| answer.code() == "SOLD_OUT").count();
        assert_eq!((sold, refused), (30, 50));
        assert_eq!(shop.stock(product).await?.0, 0);
        let depleted = shop.event_types().await?.into_iter().filter(|name| name == "StockDepleted");
        assert_eq!(depleted.count(), 1);
        assert_eq!(shop.like(7, product).await?.data()["changed"], true);
        let transactions = shop.number("select count(distinct txid) from outbox.event").await?;
        assert_eq!(transactions < 31, batch_max > 1, "{transactions} transactions for 30 orders and a like");
    }
    Ok(())
}

#[tokio::test]
async fn requests_of_one_key_that_wait_together_are_one_order() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[100]).await?[0];
    let keyed = |user, units: i64, key: &str| {
        send(shop.order_request(user, &[(product, units)]).header("idempotency-key", key))
    };
    let orders = [keyed(7, 1, "a"), keyed(7, 1, "a"), keyed(7, 1, "a"), keyed(7, 2, "a"), keyed(8, 1, "a")];
    let answers = Box::pin(together(&shop, keyed(1, 1, "z"), orders)).await?;
    let placed = |user_id: i64| format!("select count(*) from shop.orders where user_id = {user_id}");
    let mut counts = Vec::new();
    for user in [7, 8] {
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(placed(user)))
            .fetch_one(&mut shop.connect().await?)
            .await?;
        counts.push(count);
    }
    assert_eq!(counts, [1, 1]);
    let reused = answers.iter().filter(|answer| answer.status == StatusCode::CONFLICT).count();
    let ids: Vec<_> = answers[..4].iter().filter_map(|answer| answer.data()["orderId"].as_i64()).collect();
    assert!(reused == 1 || reused == 3, "which of the two bodies comes first is not said: {answers:?}");
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn a_key_that_another_process_took_fails_no_other_order() -> anyhow::Result<()> {
    // Without group commit, and with it.
    for batch_max in [0, 200] {
        let mut api = api_settings();
        api.order_batch_max = batch_max;
        let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
        let product = shop.products(&[100]).await?[0];
        let mut blocker = shop.hold("shop.order_line").await?;
        let order =
            |user, key| send(shop.order_request(user, &[(product, 1)]).header("idempotency-key", key));
        let orders = try_join_all([order(7, "a"), order(8, "b"), order(9, "c")]);
        let other = async {
            shop.writer_waits().await?;
            // As another process of the api would, after this one has looked for the key.
            blocker
                .execute("insert into shop.idempotent_response (user_id, idempotency_key, request_digest, order_id) values (7, 'a', 'x', 1)")
                .await?;
            blocker.execute("commit").await?;
            anyhow::Ok(())
        };
        let (answers, ()) = tokio::try_join!(orders, other)?;
        assert_eq!(codes(&answers), ["IDEMPOTENCY_KEY_REUSED", "", ""]);
        assert_eq!(
            (shop.stock(product).await?.0, shop.number("select count(*) from shop.orders").await?),
            (98, 2)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_somebody_holds_holds_up_only_those_who_need_it() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.group_lock_wait = Duration::from_millis(50);
    // Below the server's limit of a statement, which would end the wait of a group as well.
    api.request_timeout = Duration::from_secs(20);
    (api.view_wait, api.view_commit_wait) = (Duration::from_secs(1), Duration::from_secs(1));
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let products = shop.products(&[10, 10]).await?;
    let (held, free) = (products[0], products[1]);
    let mut blocker = shop.connect().await?;
    blocker.execute("begin").await?;
    sqlx::query("select from shop.stock where product_id = $1 for update")
        .bind(held)
        .execute(&mut blocker)
        .await?;
    let waiting = shop.order(7, &[(held, 1)]);
    let others = async {
        shop.writer_waits().await?;
        let others =
            try_join_all((1..=20).map(|user| shop.order(user, &[(free, i64::from(user == 1) + 1)]))).await;
        let later = shop.order(8, &[(free, 1)]).await;
        blocker.execute("commit").await?;
        anyhow::Ok((others?, later?))
    };
    let (waiting, (others, later)) = tokio::try_join!(waiting, others)?;
    assert_eq!(waiting.status, StatusCode::CREATED);
    let sold = others.iter().chain([&later]).filter(|answer| answer.status == StatusCode::CREATED).count();
    assert!((9..=10).contains(&sold), "{sold}");
    assert_eq!(shop.stock(held).await?.0, 9);
    assert_eq!(shop.stock(free).await?.0, 0);
    Ok(())
}

#[tokio::test]
async fn an_order_whose_buyer_goes_away_while_it_waits_is_not_placed() -> anyhow::Result<()> {
    let mut api = api_settings();
    (api.order_batch_max, api.concurrency_max) = (1, 2);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[100]).await?[0];
    let mut blocker = shop.hold("outbox.event").await?;
    let taken = shop.order(1, &[(product, 1)]);
    let gone = async {
        shop.writer_waits().await?;
        let order = shop.order_request(2, &[(product, 1)]).timeout(Duration::from_millis(300));
        assert!(send(order).await.is_err(), "the buyer gives up");
        // Its place among the two requests at once is free again.
        let left = async || Ok((shop.list("").await?.status == StatusCode::OK).then_some(()));
        eventually("the server has noticed", left).await?;
        blocker.execute("commit").await?;
        anyhow::Ok(())
    };
    let (taken, ()) = tokio::try_join!(taken, gone)?;
    assert_eq!(taken.status, StatusCode::CREATED);
    assert_eq!(
        shop.order(3, &[(product, 1)]).await?.status,
        StatusCode::CREATED,
        "behind the one that is gone"
    );
    assert_eq!(shop.number("select count(*) from shop.orders").await?, 2);
    Ok(())
}

#[tokio::test]
async fn orders_and_likes_beyond_the_queue_are_refused_for_now() -> anyhow::Result<()> {
    let mut api = api_settings();
    (api.order_queue_max, api.order_batch_max, api.like_queue_max, api.like_batch_max) = (1, 1, 1, 1);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[100]).await?[0];
    for kind in ["orders", "likes"] {
        let mut blocker = shop.hold("outbox.event").await?;
        let ask = async |user: i64| match kind {
            "orders" => shop.order(user, &[(product, 1)]).await,
            _ => shop.like(user, product).await,
        };
        let mut asked: FuturesUnordered<_> = (1..=20).map(ask).collect();
        // One is with the writer, one in the queue; the others are answered while those wait.
        for _ in 0..18 {
            let refused = asked.next().await.transpose()?.expect("20 were asked for");
            assert_eq!((refused.code(), refused.retry_after.as_deref()), ("OVERLOADED", Some("1")), "{kind}");
        }
        blocker.execute("commit").await?;
        let last: Vec<Answer> = asked.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
        assert!(last.iter().any(|answer| answer.status.is_success()), "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn likes_that_wait_together_are_answered_one_by_one() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[1, 1]).await?;
    let (product, other) = (products[0], products[1]);
    shop.like(8, product).await?;
    let like = |user: i64, product: i64, is_liked: bool| {
        let shop = &shop;
        async move { if is_liked { shop.like(user, product).await } else { shop.unlike(user, product).await } }
    };
    let requests = [
        like(7, product, true),
        like(7, other, true),
        like(8, product, true),
        like(8, other, false),
        like(9, 999_999, true),
        like(9, product, true),
        like(9, other, false),
    ];
    let answers = Box::pin(together(&shop, like(1, product, true), requests)).await?;
    let changed = |answer: &Answer| answer.data()["changed"].as_bool();
    let told: Vec<Option<bool>> = answers.iter().map(changed).collect();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(told, [yes, yes, no, no, None, yes, no]);
    assert_eq!(answers[4].code(), "PRODUCT_NOT_FOUND");
    assert_eq!(shop.number("select count(*) from outbox.event where event_type = 'ProductLiked'").await?, 5);
    assert_eq!(shop.number("select count(*) from shop.product_like").await?, 5);
    Ok(())
}

#[tokio::test]
async fn likes_of_one_buyer_change_each_other_however_many_come_at_once() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    let answers = try_join_all((0..60).map(async |index| match index % 2 {
        0 => shop.like(7, product).await,
        _ => shop.unlike(7, product).await,
    }))
    .await?;
    let changes = answers.iter().filter(|answer| answer.data()["changed"] == true).count();
    let events = shop.event_types().await?;
    assert_eq!(events.len(), changes);
    for (place, event_type) in events.iter().enumerate() {
        assert_eq!(event_type, ["ProductLiked", "ProductUnliked"][place % 2], "{events:?}");
    }
    let liked = shop.number("select count(*) from shop.product_like").await?;
    assert_eq!(usize::try_from(liked)?, events.len() % 2);
    Ok(())
}
