//! What a merchant changes, and how soon buyers see it.

use std::sync::Arc;

use futures_util::future::{join, try_join_all};
use product_cache::ProductCache;
use reqwest::{Method, StatusCode};
use serde_json::json;
use testkit::eventually;

use crate::harness::{Answer, Choices, TestShop, local_cache, send};

async fn adjust(shop: &TestShop, product_id: i64, body: serde_json::Value) -> anyhow::Result<Answer> {
    let path = format!("/api-admin/v1/products/{product_id}/stock/adjust");
    send(shop.as_admin(Method::POST, &path).json(&body)).await
}

#[tokio::test]
async fn a_change_is_on_the_next_page_although_the_card_was_cached() -> anyhow::Result<()> {
    let cache = Arc::new(local_cache()?);
    let shop = TestShop::start_with(Choices { cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let product = shop.products(&[3]).await?[0];
    shop.show(product).await?;
    let cached = async || Ok(cache.read(&[product]).await?[0].card.clone());
    let old = eventually("the card is cached", cached).await?;

    let changed = shop.change(product, &json!({ "price": 70, "brand": "Acme" })).await?;
    let expected = json!({
        "productId": product, "name": "컵", "brand": "Acme", "price": 70, "version": 2, "changed": true,
    });
    assert_eq!((changed.status, changed.data()), (StatusCode::OK, &expected));
    // A reader that was slow tries to put the old card back.
    cache.fill(std::slice::from_ref(&old)).await?;
    let shown = shop.show(product).await?;
    assert_eq!((&shown.data()["price"], &shown.data()["brand"]), (&json!(70), &json!("Acme")));
    assert_eq!(shown.data()["soldOut"], json!(false));

    let brandless = shop.change(product, &json!({ "brand": null })).await?;
    assert_eq!((&brandless.data()["brand"], &brandless.data()["price"]), (&json!(null), &json!(70)));
    let events = shop.event_types().await?;
    assert!(
        events.iter().all(|event_type| event_type == "ProductViewed"),
        "only pages are told of: {events:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_change_sent_again_changes_nothing_and_still_drops_old_cards() -> anyhow::Result<()> {
    let cache = Arc::new(local_cache()?);
    let shop = TestShop::start_with(Choices { cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let product = shop.products(&[3]).await?[0];
    shop.show(product).await?;
    eventually("the card is cached", async || Ok(cache.read(&[product]).await?[0].card.clone())).await?;
    // As an api that died after its commit leaves it: changed, and the old card still cached.
    sqlx::raw_sql("update shop.product set name = 'new'; update shop.stock set version = version + 1")
        .execute(&mut shop.connect().await?)
        .await?;
    assert_eq!(shop.show(product).await?.data()["name"], "컵");
    let again = shop.change(product, &json!({ "name": "new" })).await?;
    assert_eq!((&again.data()["changed"], &again.data()["version"]), (&json!(false), &json!(2)));
    assert_eq!(shop.show(product).await?.data()["name"], "new");
    Ok(())
}

#[tokio::test]
async fn a_change_of_a_sold_out_product_does_not_show_it_as_available() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    shop.show(product).await?;
    shop.order(7, &[(product, 1)]).await?;
    shop.change(product, &json!({ "name": "new" })).await?;
    let shown = shop.show(product).await?;
    assert_eq!((&shown.data()["name"], &shown.data()["soldOut"]), (&json!("new"), &json!(true)));
    Ok(())
}

#[tokio::test]
async fn changes_at_once_keep_what_each_of_them_names() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[3]).await?[0];
    let names = (0..8).map(|turn| shop.change(product, &json!({ "name": format!("name {turn}") })));
    let prices = (0..8).map(|turn| shop.change(product, &json!({ "price": 1_000 + turn })));
    let (names, prices) = join(try_join_all(names), try_join_all(prices)).await;
    let answers: Vec<Answer> = names?.into_iter().chain(prices?).collect();
    assert!(answers.iter().all(|answer| answer.data()["changed"] == json!(true)), "{answers:?}");
    let last = answers.iter().max_by_key(|answer| answer.data()["version"].as_i64()).map(Answer::data);
    let shown = shop.show(product).await?;
    assert_eq!(last.map(|last| &last["name"]), Some(&shown.data()["name"]));
    assert_eq!(last.map(|last| &last["price"]), Some(&shown.data()["price"]));
    assert_ne!(shown.data()["name"], "컵");
    assert_ne!(shown.data()["price"], json!(100));
    assert_eq!(shop.stock(product).await?, (3, 17), "one version a change");
    Ok(())
}

#[tokio::test]
async fn an_order_is_charged_the_price_before_or_after_a_change_and_says_which() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[100]).await?[0];
    let orders = (1..=20).map(|user| shop.order(user, &[(product, 2)]));
    let change = json!({ "price": 70 });
    let (orders, changed) = join(try_join_all(orders), shop.change(product, &change)).await;
    assert_eq!(changed?.status, StatusCode::OK);
    for order in orders? {
        let price = order.data()["items"][0]["unitPrice"].as_i64().unwrap_or_default();
        assert!([100, 70].contains(&price), "{order:?}");
        assert_eq!(order.data()["totalAmount"], json!(2 * price));
    }
    let after = shop.order(99, &[(product, 1)]).await?;
    assert_eq!(after.data()["totalAmount"], json!(70));
    Ok(())
}

#[tokio::test]
async fn an_order_that_waited_for_a_change_is_charged_the_price_behind_it() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[100]).await?[0];
    let mut merchant = shop.connect().await?;
    let change = format!(
        "begin;
         select from shop.stock where product_id = {product} for update;
         update shop.product set price = 70 where id = {product}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&mut merchant).await?;
    let changed = async {
        shop.writer_waits().await?;
        sqlx::raw_sql("commit").execute(&mut merchant).await?;
        anyhow::Ok(())
    };
    let (order, ()) = tokio::try_join!(shop.order(1, &[(product, 1)]), changed)?;
    assert_eq!(order.data()["totalAmount"], json!(70), "{order:?}");
    Ok(())
}

#[tokio::test]
async fn adjustments_at_once_all_count() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[10]).await?[0];
    try_join_all(
        (0..10).map(|turn| adjust(&shop, product, json!({ "delta": if turn < 5 { 3 } else { -2 } }))),
    )
    .await?;
    assert_eq!(shop.stock(product).await?, (15, 11));
    let all = adjust(&shop, product, json!({ "delta": -15 })).await?;
    assert_eq!(all.data(), &json!({ "productId": product, "quantity": 0, "version": 12 }));
    adjust(&shop, product, json!({ "delta": 1 })).await?;
    assert_eq!(shop.event_types().await?, ["StockDepleted", "StockReplenished"]);
    Ok(())
}

#[tokio::test]
async fn an_adjustment_of_a_version_is_made_once() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[10]).await?[0];
    let body = json!({ "delta": 5, "version": 1 });
    let answers = try_join_all((0..4).map(|_| adjust(&shop, product, body.clone()))).await?;
    let made = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.code() == "VERSION_CHANGED").collect();
    assert_eq!((made, refused.len()), (1, 3));
    assert!(refused.iter().all(|answer| answer.data() == &json!({ "version": 2 })), "{refused:?}");
    assert_eq!(shop.stock(product).await?, (15, 2));
    Ok(())
}

#[tokio::test]
async fn a_stock_stays_within_its_limit_but_what_is_given_back_may_be_taken() -> anyhow::Result<()> {
    let mut choices = Choices::ordinary()?;
    choices.api.stock_max = 10;
    let shop = TestShop::start_with(choices).await?;
    let product = shop.products(&[10]).await?[0];
    let order = shop.order(7, &[(product, 4)]).await?;
    assert_eq!(adjust(&shop, product, json!({ "delta": 5 })).await?.code(), "INVALID_STOCK");
    adjust(&shop, product, json!({ "delta": 4 })).await?;
    shop.cancel(7, order.data()["orderId"].as_i64().unwrap_or_default()).await?;
    assert_eq!(shop.stock(product).await?.0, 14);
    assert_eq!(adjust(&shop, product, json!({ "delta": -1 })).await?.data()["quantity"], json!(13));
    assert_eq!(shop.set_stock(product, 11).await?.code(), "INVALID_STOCK");
    Ok(())
}
