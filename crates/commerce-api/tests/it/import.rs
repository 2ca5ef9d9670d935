//! Recorded history in bulk, and the recount that it must agree with.

use chrono::{DateTime, TimeDelta, Utc};
use commerce_api::import::{
    ImportError, ImportedLike, ImportedOrder, ImportedOrders, ImportedView, ensure_products, import_likes,
    import_orders, import_views,
};
use commerce_api::{Line, OrderKind, ProductRecount, recount};
use futures_util::TryStreamExt;
use serde_json::json;
use sqlx::Connection;

use crate::harness::TestShop;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
}

fn piece(external_id: &str, kind: OrderKind, minute: i64, lines: &[(i64, i64, i64)]) -> ImportedOrder {
    let lines = lines
        .iter()
        .map(|(product_id, quantity, unit_price)| Line {
            product_id: *product_id,
            quantity: *quantity,
            unit_price: *unit_price,
        })
        .collect();
    ImportedOrder {
        external_id: external_id.to_owned(),
        kind,
        user_id: Some(17),
        ordered_at: at(minute),
        lines,
    }
}

async fn recounted(shop: &TestShop) -> anyhow::Result<Vec<ProductRecount>> {
    let mut connection = shop.connect().await?;
    Ok(recount(&mut connection).try_collect().await?)
}

#[tokio::test]
async fn products_are_created_once_by_exact_code() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let mut connection = shop.connect().await?;
    let mut tx = connection.begin().await?;
    let first = ensure_products(&mut tx, &[("a", "x", 5), ("A", "y", 6), ("a", "z", 7)], 9).await?;
    assert_eq!(first[0], first[2]);
    assert_ne!(first[0], first[1]);
    let again = ensure_products(&mut tx, &[("A", "q", 1), ("b", "q", 1)], 0).await?;
    assert_eq!(again[0], first[1]);
    tx.commit().await?;
    assert_eq!(shop.number("select count(*) from shop.product").await?, 3);
    assert_eq!(shop.number("select sum(quantity)::bigint from shop.stock").await?, 18);
    assert_eq!(shop.number("select price from shop.product where code = 'a'").await?, 5);
    Ok(())
}

#[tokio::test]
async fn pieces_of_an_invoice_become_one_order_with_an_event_each() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[5, 5]).await?;
    let (one, two) = (products[0], products[1]);
    let mut connection = shop.connect().await?;
    let mut tx = connection.begin().await?;
    let log = &shop.log;
    let first = piece("536365", OrderKind::Sale, 0, &[(one, 6, 255), (one, 6, 255), (two, 1, 339)]);
    let second = piece("536365", OrderKind::Sale, 1, &[(two, 2, 339)]);
    let refund = piece("C536379", OrderKind::Refund, 2, &[(one, 1, 2_750)]);
    let new = import_orders(&mut tx, log, &[first, refund, second]).await?;
    assert_eq!(new, ImportedOrders { sales_new: 1, refunds_new: 1 });
    let new = import_orders(&mut tx, log, &[piece("536365", OrderKind::Sale, 3, &[(one, 1, 255)])]).await?;
    assert_eq!(new, ImportedOrders::default(), "it only gained a line");
    import_orders(&mut tx, log, &[piece("536365", OrderKind::Sale, 3, &[])]).await?;
    tx.commit().await?;

    let lines: Vec<(String, i32, i64, i64)> = sqlx::query_as(
        "select external_id, line, product_id, quantity
           from shop.orders join shop.order_line on order_id = id order by external_id, line",
    )
    .fetch_all(&mut connection)
    .await?;
    let order = |line, product, quantity| ("536365".to_owned(), line, product, quantity);
    let expected = [order(1, one, 6), order(2, one, 6), order(3, two, 1), order(4, two, 2), order(5, one, 1)];
    assert_eq!(lines[..5], expected);
    assert_eq!(lines[5], ("C536379".to_owned(), 1, one, 1));
    let totals = "select total_amount from shop.orders where external_id = '536365'";
    assert_eq!(shop.number(totals).await?, 13 * 255 + 3 * 339);

    let events = shop.events().await?;
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["OrderCompleted", "OrderCancelled", "OrderCompleted", "OrderCompleted"]);
    assert_eq!(events[2].partition_key, events[0].partition_key);
    assert_eq!(events[2].payload["lines"], json!([{ "productId": two, "quantity": 2, "unitPrice": 339 }]));
    let times: Vec<DateTime<Utc>> = sqlx::query_scalar("select occurred_at from outbox.event order by id")
        .fetch_all(&mut connection)
        .await?;
    assert_eq!(times, [at(0), at(2), at(1), at(3)]);

    let recounted = recounted(&shop).await?;
    assert_eq!((recounted[0].units, recounted[0].amount), (12, 13 * 255 - 2_750));
    assert_eq!((recounted[1].units, recounted[1].amount), (3, 3 * 339));
    assert_eq!((recounted[0].sold_out, recounted[0].stock_version), (false, 1), "history touches no stock");
    Ok(())
}

#[tokio::test]
async fn an_order_cannot_change_its_kind() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    let mut connection = shop.connect().await?;
    let mut tx = connection.begin().await?;
    import_orders(&mut tx, &shop.log, &[piece("1", OrderKind::Sale, 0, &[(product, 1, 1)])]).await?;
    let changed =
        import_orders(&mut tx, &shop.log, &[piece("1", OrderKind::Refund, 0, &[(product, 1, 1)])]).await;
    assert!(matches!(changed, Err(ImportError::KindChanged { external_id }) if external_id == "1"));
    Ok(())
}

#[tokio::test]
async fn an_invoice_longer_than_an_event_is_told_in_several() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    let mut connection = shop.connect().await?;
    let mut tx = connection.begin().await?;
    let lines = vec![(product, 1, 1); 4_001];
    import_orders(&mut tx, &shop.log, &[piece("1", OrderKind::Sale, 0, &lines)]).await?;
    tx.commit().await?;
    let lengths: Vec<usize> = shop
        .events()
        .await?
        .iter()
        .map(|event| event.payload["lines"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(lengths, [2_000, 2_000, 1]);
    assert_eq!(recounted(&shop).await?[0].units, 4_001);
    Ok(())
}

#[tokio::test]
async fn only_new_likes_are_told_and_every_view_is() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    shop.like(1, product).await?;
    let mut connection = shop.connect().await?;
    let mut tx = connection.begin().await?;
    let like = |user_id, minute| ImportedLike { user_id, product_id: product, liked_at: at(minute) };
    let new = import_likes(&mut tx, &shop.log, &[like(3, 5), like(1, 0), like(2, 4), like(3, 1)]).await?;
    assert_eq!(new, 2);
    assert_eq!(import_likes(&mut tx, &shop.log, &[like(2, 9)]).await?, 0);
    let view = |user_id| ImportedView { user_id, product_id: product, viewed_at: at(7) };
    import_views(&mut tx, &shop.log, &[view(Some(3)), view(None), view(Some(3))]).await?;
    tx.commit().await?;
    let types = shop.event_types().await?;
    assert_eq!(types.iter().filter(|name| *name == "ProductLiked").count(), 3);
    assert_eq!(types.iter().filter(|name| *name == "ProductViewed").count(), 3);
    assert_eq!(recounted(&shop).await?[0].likes, 3);
    Ok(())
}

#[tokio::test]
async fn a_rolled_back_import_leaves_nothing() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    let mut connection = shop.connect().await?;
    let mut tx = connection.begin().await?;
    import_orders(&mut tx, &shop.log, &[piece("1", OrderKind::Sale, 0, &[(product, 1, 1)])]).await?;
    tx.rollback().await?;
    assert!(shop.events().await?.is_empty());
    assert_eq!(shop.number("select count(*) from shop.orders").await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_recount_leaves_cancelled_orders_out_and_names_every_product() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[3, 0]).await?;
    let cancelled = shop.order(7, &[(products[0], 3)]).await?;
    shop.cancel(7, cancelled.data()["orderId"].as_i64().unwrap_or_default()).await?;
    shop.order(8, &[(products[0], 3)]).await?;
    shop.like(8, products[0]).await?;
    let expected = [
        ProductRecount {
            product_id: products[0],
            likes: 1,
            units: 3,
            amount: 300,
            sold_out: true,
            stock_version: 4,
        },
        ProductRecount {
            product_id: products[1],
            likes: 0,
            units: 0,
            amount: 0,
            sold_out: true,
            stock_version: 1,
        },
    ];
    assert_eq!(recounted(&shop).await?, expected);
    Ok(())
}
