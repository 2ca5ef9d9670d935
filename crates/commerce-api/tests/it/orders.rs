//! Orders never sell what is not there, and nothing is done twice.

use std::collections::BTreeSet;

use futures_util::future::{join_all, try_join_all};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Choices, StoredEvent, TestShop, api_settings, send};

fn order_id(answer: &Answer) -> anyhow::Result<i64> {
    answer.data()["orderId"].as_i64().ok_or_else(|| anyhow::anyhow!("no order in {answer:?}"))
}

fn stock_events(events: &[StoredEvent]) -> Vec<(&str, Option<i64>)> {
    events
        .iter()
        .filter(|event| event.topic == "t-stock-events")
        .map(|event| (event.event_type.as_str(), event.aggregate_version))
        .collect()
}

#[tokio::test]
async fn concurrent_orders_never_oversell() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[25]).await?[0];
    let answers = try_join_all((1..=60).map(|user| shop.order(user, &[(product, 1)]))).await?;
    let placed = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    let refused = answers.iter().filter(|answer| answer.code() == "SOLD_OUT").count();
    assert_eq!((placed, refused), (25, 35));
    let (quantity, version) = shop.stock(product).await?;
    assert_eq!(quantity, 0);
    let events = shop.events().await?;
    assert_eq!(stock_events(&events), [("StockDepleted", Some(version))]);
    assert_eq!(events.iter().filter(|event| event.event_type == "OrderCompleted").count(), 25);
    Ok(())
}

#[tokio::test]
async fn orders_that_want_the_same_products_in_any_order_do_not_block_each_other() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[10_000; 5]).await?;
    let answers = join_all((0_i64..60).map(|user| {
        let mut items: Vec<(i64, i64)> = products.iter().map(|product| (*product, 1)).collect();
        items.rotate_left(usize::try_from(user).unwrap_or(0) % 5);
        let shop = &shop;
        async move { shop.order(user + 1, &items).await }
    }))
    .await;
    for answer in answers {
        assert_eq!(answer?.status, StatusCode::CREATED);
    }
    assert_eq!(shop.stock(products[2]).await?.0, 10_000 - 60);
    Ok(())
}

#[tokio::test]
async fn stock_versions_have_no_gaps_and_events_alternate() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    let first = order_id(&shop.order(7, &[(product, 1)]).await?)?; // 2: depleted
    assert_eq!(shop.order(8, &[(product, 1)]).await?.code(), "SOLD_OUT");
    shop.cancel(7, first).await?; // 3: replenished
    shop.set_stock(product, 2).await?; // 4
    shop.order(8, &[(product, 2)]).await?; // 5: depleted
    shop.set_stock(product, 0).await?; // 6: was 0 before
    shop.set_stock(product, 9).await?; // 7: replenished
    assert_eq!(shop.stock(product).await?, (9, 7));
    assert_eq!(
        stock_events(&shop.events().await?),
        [
            ("StockDepleted", Some(2)),
            ("StockReplenished", Some(3)),
            ("StockDepleted", Some(5)),
            ("StockReplenished", Some(7)),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn concurrent_changes_of_stock_alternate_between_depleted_and_replenished() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[3]).await?[0];
    try_join_all((1..=20).map(|user| {
        let shop = &shop;
        async move {
            let placed = shop.order(user, &[(product, 1)]).await?;
            if placed.status == StatusCode::CREATED {
                shop.cancel(user, order_id(&placed)?).await?;
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    let (quantity, version) = shop.stock(product).await?;
    let orders = shop.number("select count(*) from shop.orders").await?;
    // Orders of one transaction are one change.
    assert!(quantity == 3 && version <= 1 + 2 * orders, "{quantity} {version} {orders}");
    let events = shop.events().await?;
    let events = stock_events(&events);
    assert!(events.is_sorted_by_key(|(_, version)| *version), "{events:?}");
    for (place, (event_type, _)) in events.iter().enumerate() {
        assert_eq!(*event_type, ["StockDepleted", "StockReplenished"][place % 2], "{events:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_order_holds_its_lines_and_its_total() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[10, 10]).await?;
    // Lines of one product become one.
    let placed = shop.order(7, &[(products[1], 1), (products[0], 2), (products[1], 3)]).await?;
    assert_eq!(placed.status, StatusCode::CREATED);
    let items = json!([
        { "productId": products[0], "quantity": 2, "unitPrice": 100 },
        { "productId": products[1], "quantity": 4, "unitPrice": 100 },
    ]);
    assert_eq!(placed.data()["items"], items);
    assert_eq!(placed.data()["totalAmount"], json!(600));
    let id = order_id(&placed)?;
    let event = &shop.events().await?[0];
    assert_eq!(event.partition_key, id.to_string());
    assert_eq!(event.payload, json!({ "orderId": id, "userId": 7, "lines": items }));

    let path = format!("/api/v1/orders/{id}");
    let shown = send(shop.as_user(Method::GET, &path, 7)).await?;
    assert_eq!(shown.data()["items"], items);
    assert_eq!(shown.data()["status"], "completed");
    assert_eq!(send(shop.as_user(Method::GET, &path, 8)).await?.code(), "ORDER_NOT_FOUND");
    let own = send(shop.as_user(Method::GET, "/api/v1/orders", 7)).await?;
    assert_eq!(own.data()["items"][0]["orderId"], json!(id));
    let others = send(shop.as_user(Method::GET, "/api/v1/orders", 8)).await?;
    assert_eq!(others.data()["items"], json!([]));
    Ok(())
}

#[tokio::test]
async fn an_order_of_an_unknown_product_is_refused_by_its_id() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    let answer = shop.order(7, &[(product, 1), (987_654, 1)]).await?;
    assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "PRODUCT_NOT_FOUND"));
    assert_eq!(answer.data()["productIds"], json!([987_654]));
    assert_eq!(shop.stock(product).await?, (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_order_is_cancelled_once_and_only_by_its_buyer() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[4]).await?[0];
    let id = order_id(&shop.order(7, &[(product, 4)]).await?)?;
    let stranger = shop.cancel(8, id).await?;
    assert_eq!((stranger.status, stranger.code()), (StatusCode::NOT_FOUND, "ORDER_NOT_FOUND"));
    let answers = try_join_all((0..8).map(|_| shop.cancel(7, id))).await?;
    let changed = answers.iter().filter(|answer| answer.data()["changed"] == json!(true)).count();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(changed, 1);
    assert_eq!(shop.stock(product).await?, (4, 3));
    assert_eq!(
        shop.event_types().await?,
        ["OrderCompleted", "StockDepleted", "OrderCancelled", "StockReplenished"]
    );
    Ok(())
}

async fn order_with_key(
    shop: &TestShop,
    user: i64,
    items: &[(i64, i64)],
    key: &str,
) -> anyhow::Result<Answer> {
    send(shop.order_request(user, items).header("idempotency-key", key)).await
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_and_another_body_is_refused() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[10, 10]).await?;
    let items = [(products[0], 1), (products[1], 2)];
    let first = order_with_key(&shop, 7, &items, "k-1").await?;
    let again = order_with_key(&shop, 7, &items, "k-1").await?;
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(first.body, again.body);
    shop.cancel(7, order_id(&first)?).await?;
    let after_cancellation = order_with_key(&shop, 7, &[items[1], items[0]], "k-1").await?;
    assert_eq!(after_cancellation.body, first.body, "the same order, however its lines are written down");

    let other = order_with_key(&shop, 7, &[(products[0], 2)], "k-1").await?;
    assert_eq!((other.status, other.code()), (StatusCode::CONFLICT, "IDEMPOTENCY_KEY_REUSED"));
    let another_buyer = order_with_key(&shop, 8, &items, "k-1").await?;
    assert_ne!(order_id(&another_buyer)?, order_id(&first)?);
    assert_eq!(shop.number("select count(*) from shop.orders").await?, 2);
    Ok(())
}

#[tokio::test]
async fn concurrent_requests_with_one_key_are_one_order() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[100]).await?[0];
    let items = [(product, 1)];
    let answers = try_join_all((0..16).map(|_| order_with_key(&shop, 7, &items, "k"))).await?;
    let bodies: BTreeSet<String> = answers.iter().map(|answer| answer.body.to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(shop.stock(product).await?, (99, 2));
    assert_eq!(shop.event_types().await?, ["OrderCompleted"]);
    Ok(())
}

#[tokio::test]
async fn concurrent_requests_with_one_key_and_two_bodies_are_one_order() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[100, 100]).await?;
    let requests = (0..16).map(|turn| {
        let items = [(products[turn % 2], 1)];
        let shop = &shop;
        async move { order_with_key(shop, 7, &items, "k").await }
    });
    let answers = try_join_all(requests).await?;
    let (placed, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == StatusCode::CREATED);
    assert_eq!((placed.len(), refused.len()), (8, 8), "{answers:?}");
    assert!(placed.iter().all(|answer| answer.body == placed[0].body), "{placed:?}");
    assert!(refused.iter().all(|answer| answer.status == StatusCode::CONFLICT), "{refused:?}");
    assert!(refused.iter().all(|answer| answer.code() == "IDEMPOTENCY_KEY_REUSED"), "{refused:?}");
    assert_eq!(shop.event_types().await?, ["OrderCompleted"]);
    assert_eq!(shop.number("select sum(quantity)::bigint from shop.stock").await?, 199);
    Ok(())
}

#[tokio::test]
async fn of_two_buyers_one_gets_the_last_item() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for product in shop.products(&[1; 10]).await? {
        let answers = try_join_all([7, 8].map(|user| shop.order(user, &[(product, 1)]))).await?;
        let mut statuses = answers.iter().map(|answer| answer.status.as_u16()).collect::<Vec<_>>();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
        let refused = answers.iter().find(|answer| answer.code() == "SOLD_OUT");
        assert_eq!(refused.map(Answer::data), Some(&json!({ "productIds": [product] })));
        assert_eq!(shop.stock(product).await?, (0, 2));
    }
    Ok(())
}

#[tokio::test]
async fn a_stock_that_is_set_while_orders_are_placed_is_what_they_go_on_from() -> anyhow::Result<()> {
    let mut api = api_settings();
    // Each order is a change of its own.
    api.order_batch_max = 1;
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1_000]).await?[0];
    let orders = try_join_all((1..=20).map(|user| shop.order(user, &[(product, 1)])));
    let (orders, set) = futures_util::future::join(orders, shop.set_stock(product, 500)).await;
    let version = set?.data()["version"].as_i64().unwrap_or_default();
    assert!(orders?.iter().all(|order| order.status == StatusCode::CREATED));
    // Versions from 2 to the one before were orders that came first.
    let after = 20 - (version - 2);
    assert_eq!(shop.stock(product).await?, (500 - after, 22));
    Ok(())
}

#[tokio::test]
async fn a_key_whose_order_was_refused_can_be_used_again() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[0]).await?[0];
    assert_eq!(order_with_key(&shop, 7, &[(product, 1)], "k").await?.code(), "SOLD_OUT");
    shop.set_stock(product, 1).await?;
    assert_eq!(order_with_key(&shop, 7, &[(product, 1)], "k").await?.status, StatusCode::CREATED);
    assert_ne!(shop.number("select count(*) from shop.idempotent_response").await?, 0);
    assert_eq!(
        order_with_key(&shop, 7, &[(product, 1)], "k").await?.data()["items"][0]["quantity"],
        Value::from(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_twin_of_the_request_that_took_the_last_unit_gets_its_answer() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    let items = [(product, 1)];
    let answers = try_join_all((0..8).map(|_| order_with_key(&shop, 7, &items, "k"))).await?;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED), "{answers:?}");
    assert_eq!(shop.event_types().await?, ["OrderCompleted", "StockDepleted"]);
    Ok(())
}
