//! Rankings with known numbers, over one database and over two.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use runtime::Clock;
use serde_json::{Value, json};
use sqlx::Executor;
use testkit::eventually;

use crate::harness::{Answer, Choices, TestShop, ranking_settings, send};

/// 11:30 of the 10th of March in Seoul.
const NOW: &str = "2026-03-10T02:30:00Z";

/// A clock that stands.
struct At(DateTime<Utc>);

impl Clock for At {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

fn choices() -> anyhow::Result<Choices> {
    Ok(Choices { clock: Arc::new(At(NOW.parse()?)), ..Choices::ordinary()? })
}

/// What happened to a product in an hour.
async fn happened(shop: &TestShop, product_id: i64, hour: &str, counts: [i64; 3]) -> anyhow::Result<()> {
    let statement =
        "insert into metrics.product_metrics_hourly (product_id, hour, view_count, like_count, sales_amount)
                     values ($1, $2, $3, $4, $5)";
    insert(shop, statement, product_id, hour, counts).await
}

/// The same, by a batch that is not folded yet.
async fn added(shop: &TestShop, product_id: i64, hour: &str, counts: [i64; 3]) -> anyhow::Result<()> {
    let statement = "insert into metrics.hourly_addition (products, hours, views, likes, amounts, sales)
                     values (array[$1], array[extract(epoch from $2)::bigint], array[$3], array[$4], array[$5], array[0])";
    insert(shop, statement, product_id, hour, counts).await
}

async fn insert(
    shop: &TestShop,
    statement: &'static str,
    product_id: i64,
    hour: &str,
    [views, likes, amount]: [i64; 3],
) -> anyhow::Result<()> {
    sqlx::query(statement)
        .bind(product_id)
        .bind(hour.parse::<DateTime<Utc>>()?)
        .bind(views)
        .bind(likes)
        .bind(amount)
        .execute(&mut shop.connect_metrics().await?)
        .await?;
    Ok(())
}

/// Five products: viewed, bought, in demand yesterday, given back, in demand three weeks ago.
async fn demand(shop: &TestShop) -> anyhow::Result<Vec<i64>> {
    let products = shop.products(&[1; 5]).await?;
    happened(shop, products[0], "2026-03-10T00:00:00Z", [4, 1, 0]).await?;
    happened(shop, products[0], "2026-03-10T01:00:00Z", [4, 0, 0]).await?;
    added(shop, products[0], "2026-03-10T01:00:00Z", [2, 0, 0]).await?;
    // The first hour of the day in Seoul, and the last one of the day before.
    happened(shop, products[1], "2026-03-09T15:00:00Z", [0, 0, 400]).await?;
    added(shop, products[1], "2026-03-10T01:00:00Z", [0, 0, 599]).await?;
    happened(shop, products[2], "2026-03-09T14:00:00Z", [100, 0, 0]).await?;
    happened(shop, products[3], "2026-03-10T00:00:00Z", [0, -3, -500]).await?;
    happened(shop, products[4], "2026-02-17T00:00:00Z", [30, 0, 0]).await?;
    Ok(products)
}

async fn ranking(shop: &TestShop, query: &str) -> anyhow::Result<Answer> {
    send(shop.request(Method::GET, &format!("/api/v1/rankings?{query}"))).await
}

/// Rank, product and score, to four digits.
fn places(answer: &Answer) -> Vec<(i64, i64, String)> {
    let number = |item: &Value, name: &str| item[name].as_i64().unwrap_or_default();
    let items = answer.data()["items"].as_array();
    items
        .into_iter()
        .flatten()
        .map(|item| {
            let score = item["score"].as_f64().unwrap_or_default();
            (number(item, "rank"), number(item, "productId"), format!("{score:.4}"))
        })
        .collect()
}

#[tokio::test]
async fn a_ranking_weighs_views_likes_and_the_logarithm_of_sales() -> anyhow::Result<()> {
    for metrics_apart in [false, true] {
        let shop = TestShop::start_with(Choices { metrics_apart, ..choices()? }).await?;
        let products = demand(&shop).await?;
        let expect = |expected: &[(usize, &str)]| -> Vec<(i64, i64, String)> {
            let rows = (1..).zip(expected);
            rows.map(|(rank, (place, score))| (rank, products[*place], (*score).to_owned())).collect()
        };
        for (query, expected) in [
            // 0.6 ln 1000; 0.1 · 10 + 0.2; a tenth of yesterday's 0.1 · 100.
            ("", &[(1, "4.1447"), (0, "1.2000"), (2, "1.0000")][..]),
            ("period=daily&date=20260310", &[(1, "4.1447"), (0, "1.2000"), (2, "1.0000")]),
            ("date=20260309", &[(2, "10.0000")]),
            ("date=20260308", &[]),
            // The running hour has only a tenth of the one before: 0.6 ln 600, and 0.1 · 6.
            ("period=hourly", &[(1, "0.3838"), (0, "0.0600")]),
            ("period=hourly&hour=10", &[(1, "3.8382"), (0, "0.6600")]),
            ("period=hourly&date=20260310&hour=0", &[(1, "3.5964"), (2, "1.0000")]),
            ("period=hourly&date=20260309", &[(2, "10.0000")]),
            ("period=weekly", &[(2, "10.0000"), (1, "4.1447"), (0, "1.2000")]),
            ("period=weekly&date=20260309", &[(2, "10.0000")]),
            ("period=monthly", &[(2, "10.0000"), (1, "4.1447"), (4, "3.0000"), (0, "1.2000")]),
        ] {
            let answer = ranking(&shop, query).await?;
            assert_eq!(places(&answer), expect(expected), "{query}");
        }
        let today = ranking(&shop, "size=2").await?;
        assert_eq!(today.data()["from"], "2026-03-10T00:00:00+09:00");
        assert_eq!(today.data()["to"], "2026-03-11T00:00:00+09:00");
        assert_eq!(today.data()["calculatedAt"], NOW);
        assert_eq!((&today.data()["period"], &today.data()["hasNext"]), (&json!("daily"), &json!(true)));
        assert_eq!(today.data()["items"][0]["name"], "컵");
        let next = ranking(&shop, "size=2&page=1").await?;
        assert_eq!(places(&next), expect(&[(1, "4.1447"), (0, "1.2000"), (2, "1.0000")])[2..]);
        assert_eq!(next.data()["hasNext"], json!(false));

        // The page of each product tells the rank that the list tells.
        for (product, rank) in products.iter().zip([json!(2), json!(1), json!(3), Value::Null, Value::Null]) {
            assert_eq!(shop.show(*product).await?.data()["rank"], rank);
        }
    }
    Ok(())
}

#[tokio::test]
async fn weights_and_what_is_carried_over_are_settings() -> anyhow::Result<()> {
    let mut rankings = ranking_settings();
    (rankings.view_weight, rankings.like_weight, rankings.sales_weight) = (2.0, 3.0, 0.0);
    rankings.carry_over = 0.5;
    let shop = TestShop::start_with(Choices { rankings, ..choices()? }).await?;
    let products = demand(&shop).await?;
    let expected = [(1, products[2], "100.0000".to_owned()), (2, products[0], "23.0000".to_owned())];
    assert_eq!(places(&ranking(&shop, "").await?), expected);

    rankings.carry_over = 0.0;
    let shop = TestShop::start_with(Choices { rankings, ..choices()? }).await?;
    let products = demand(&shop).await?;
    assert_eq!(places(&ranking(&shop, "").await?), [(1, products[0], "23.0000".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn equal_scores_put_the_newer_product_first() -> anyhow::Result<()> {
    let shop = TestShop::start_with(choices()?).await?;
    let products = shop.products(&[1, 1]).await?;
    for product in &products {
        happened(&shop, *product, "2026-03-10T00:00:00Z", [1, 0, 0]).await?;
    }
    let ids: Vec<i64> = places(&ranking(&shop, "").await?).into_iter().map(|place| place.1).collect();
    assert_eq!(ids, [products[1], products[0]]);
    Ok(())
}

#[tokio::test]
async fn a_ranking_is_remembered_no_longer_than_its_age() -> anyhow::Result<()> {
    let mut rankings = ranking_settings();
    rankings.age_max = Duration::from_millis(200);
    let shop = TestShop::start_with(Choices { rankings, ..choices()? }).await?;
    let product = shop.products(&[1]).await?[0];
    assert!(places(&ranking(&shop, "").await?).is_empty());
    happened(&shop, product, "2026-03-10T00:00:00Z", [1, 0, 0]).await?;
    let ranked = async || Ok((shop.show(product).await?.data()["rank"] == json!(1)).then_some(()));
    eventually("the newer ranking is shown", ranked).await
}

#[tokio::test]
async fn a_ranking_has_so_many_places_and_no_more() -> anyhow::Result<()> {
    let mut choices = choices()?;
    (choices.api.page_size_default, choices.api.page_size_max) = (2, 3);
    choices.rankings.products_max = 3;
    let shop = TestShop::start_with(choices).await?;
    let products = shop.products(&[1; 5]).await?;
    for (product, views) in products.iter().zip(1..) {
        happened(&shop, *product, "2026-03-10T00:00:00Z", [views, 0, 0]).await?;
    }
    assert_eq!(places(&ranking(&shop, "size=3").await?).len(), 3);
    assert_eq!(ranking(&shop, "size=3").await?.data()["hasNext"], json!(false));
    assert_eq!(ranking(&shop, "size=2&page=1").await?.code(), "INVALID_PAGE");
    assert_eq!(shop.show(products[2]).await?.data()["rank"], json!(3));
    assert_eq!(shop.show(products[1]).await?.data()["rank"], Value::Null, "behind the last place");
    Ok(())
}

#[tokio::test]
async fn a_product_that_is_not_in_the_shop_leaves_its_place_empty() -> anyhow::Result<()> {
    let shop = TestShop::start_with(choices()?).await?;
    let product = shop.products(&[1]).await?[0];
    happened(&shop, 987_654, "2026-03-10T00:00:00Z", [9, 0, 0]).await?;
    happened(&shop, product, "2026-03-10T00:00:00Z", [1, 0, 0]).await?;
    assert_eq!(places(&ranking(&shop, "").await?), [(2, product, "0.1000".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn a_ranking_that_takes_too_long_is_refused_and_pages_go_on_without_it() -> anyhow::Result<()> {
    let mut choices = choices()?;
    choices.rankings.query_timeout = Duration::from_millis(50);
    choices.metrics_apart = true;
    let shop = TestShop::start_with(choices).await?;
    let product = shop.products(&[1]).await?[0];
    let mut holder = shop.connect_metrics().await?;
    holder.execute("begin; lock table metrics.product_metrics_hourly in access exclusive mode").await?;
    let refused = ranking(&shop, "").await?;
    assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
    let page = shop.show(product).await?;
    assert_eq!((page.status, &page.data()["rank"]), (StatusCode::OK, &Value::Null));
    holder.execute("rollback").await?;
    assert_eq!(ranking(&shop, "").await?.status, StatusCode::OK);
    Ok(())
}
