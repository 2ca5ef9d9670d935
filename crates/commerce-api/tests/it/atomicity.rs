//! P1: an event exists if and only if its change committed.

use outbox::AppendLimits;
use reqwest::StatusCode;

use crate::harness::{Choices, TestShop};

/// The transaction that wrote each row that a command changed.
async fn writers(shop: &TestShop, sql: &'static str) -> anyhow::Result<Vec<i64>> {
    Ok(sqlx::query_scalar(sql).fetch_all(&mut shop.connect().await?).await?)
}

#[tokio::test]
async fn every_change_and_its_events_are_one_transaction() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[2, 9]).await?;
    shop.like(7, products[0]).await?;
    let order = shop.order(7, &[(products[0], 2), (products[1], 1)]).await?;
    shop.set_stock(products[1], 0).await?;
    let events = shop.events().await?;
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["ProductLiked", "OrderCompleted", "StockDepleted", "StockDepleted"]);

    let like = writers(&shop, "select xmin::text::bigint from shop.product_like").await?;
    assert_eq!(like, [events[0].txid]);
    let placed = writers(
        &shop,
        "select xmin::text::bigint from shop.orders
         union select xmin::text::bigint from shop.order_line
         union select xmin::text::bigint from shop.stock where product_id = (select min(id) from shop.product)",
    )
    .await?;
    assert_eq!(placed, [events[1].txid], "order, lines and stock were written by one transaction");
    assert_eq!(events[2].txid, events[1].txid);
    let set = writers(
        &shop,
        "select xmin::text::bigint from shop.stock where product_id = (select max(id) from shop.product)",
    )
    .await?;
    assert_eq!(set, [events[3].txid]);

    let order_id = order.data()["orderId"].as_i64().unwrap_or_default();
    shop.cancel(7, order_id).await?;
    let events = shop.events().await?.split_off(4);
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["OrderCancelled", "StockReplenished", "StockReplenished"]);
    let cancelled = writers(
        &shop,
        "select xmin::text::bigint from shop.orders union select xmin::text::bigint from shop.stock",
    )
    .await?;
    assert_eq!(cancelled, [events[0].txid]);
    assert!(events.iter().all(|event| event.txid == events[0].txid));
    Ok(())
}

#[tokio::test]
async fn a_refused_order_leaves_no_row_and_no_event() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[5, 1]).await?;
    let answer = shop.order(7, &[(products[0], 5), (products[1], 2)]).await?;
    assert_eq!((answer.status, answer.code()), (StatusCode::CONFLICT, "SOLD_OUT"));
    assert_eq!(answer.data()["productIds"], serde_json::json!([products[1]]));
    assert!(shop.events().await?.is_empty());
    assert_eq!(shop.number("select count(*) from shop.orders").await?, 0);
    assert_eq!(shop.stock(products[0]).await?, (5, 1), "all or nothing");
    Ok(())
}

#[tokio::test]
async fn a_change_whose_event_is_refused_is_not_made() -> anyhow::Result<()> {
    // Nothing fits: every append is refused after the business rows were written.
    let limits = AppendLimits { record_bytes_max: 1 };
    let shop = TestShop::start_with(Choices { limits, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[2]).await?[0];
    let answers = [
        shop.like(7, product).await?,
        shop.order(7, &[(product, 2)]).await?,
        shop.set_stock(product, 0).await?,
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.code()), (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"));
        assert_eq!(answer.data(), &serde_json::Value::Null, "nothing of the cause is told");
    }
    assert_eq!(shop.number("select count(*) from shop.product_like").await?, 0);
    assert_eq!(shop.number("select count(*) from shop.orders").await?, 0);
    assert_eq!(shop.stock(product).await?, (2, 1));
    assert_eq!(shop.show(product).await?.view_recorded.as_deref(), Some("false"));
    Ok(())
}
