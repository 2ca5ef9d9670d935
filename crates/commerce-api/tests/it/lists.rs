//! Lists: each sort and filter, over one database and over two.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Executor;

use crate::harness::{Choices, TestShop, api_settings, send};

const SORTS: [&str; 6] = ["latest", "price_asc", "price_desc", "likes_desc", "sales_desc", "views_desc"];

/// A shop whose counts are where its products are, and one whose counts are in another database.
async fn shops() -> anyhow::Result<[TestShop; 2]> {
    let apart = Choices { metrics_apart: true, ..Choices::ordinary()? };
    Ok([TestShop::start().await?, TestShop::start_with(apart).await?])
}

/// Products of (name, brand, price); their ids.
async fn stock_up(shop: &TestShop, products: &[(&str, Option<&str>, i64)]) -> anyhow::Result<Vec<i64>> {
    let products: Vec<Value> = products
        .iter()
        .map(|(name, brand, price)| {
            let code = testkit::unique("code");
            json!({ "code": code, "name": name, "brand": brand, "price": price, "stock": 1 })
        })
        .collect();
    let request = shop.as_admin(Method::POST, "/api-admin/v1/products/bulk");
    let answer = send(request.json(&json!({ "products": products }))).await?;
    anyhow::ensure!(answer.status == StatusCode::CREATED, "{answer:?}");
    Ok(serde_json::from_value(answer.data()["productIds"].clone())?)
}

/// Five products of two brands, counted in different orders.
async fn counted_shelf(shop: &TestShop) -> anyhow::Result<Vec<i64>> {
    let products = stock_up(
        shop,
        &[
            ("Red cup", Some("Acme"), 30),
            ("red CUP 5%", Some("Acme"), 10),
            ("컵 빨강", None, 20),
            ("plate", Some("Acme"), 10),
            ("100_cup", Some("acme"), 40),
        ],
    )
    .await?;
    shop.count(products[0], 5, 1, 0).await?;
    shop.count(products[1], 9, 0, 3).await?;
    // Taken back more often than sold here: as good as nothing.
    shop.count(products[2], 9, -4, 8).await?;
    Ok(products)
}

#[tokio::test]
async fn every_sort_lists_every_product_in_its_order_whole_or_in_pages() -> anyhow::Result<()> {
    for shop in shops().await? {
        let products = counted_shelf(&shop).await?;
        let expected = [
            [4, 3, 2, 1, 0],
            [1, 3, 2, 0, 4],
            [4, 0, 2, 3, 1],
            [2, 1, 0, 4, 3],
            [0, 4, 3, 2, 1],
            [2, 1, 4, 3, 0],
        ];
        for (sort, places) in SORTS.iter().zip(expected) {
            let whole = shop.list(&format!("sort={sort}")).await?;
            assert_eq!(whole.ids(), places.map(|place| products[place]), "{sort}");
            assert_eq!(whole.data()["sort"], json!(sort));
            let mut pieces = Vec::new();
            for page in 0..3 {
                let piece = shop.list(&format!("sort={sort}&size=2&page={page}")).await?;
                assert_eq!(piece.data()["hasNext"], json!(page < 2), "{sort} {page}");
                pieces.extend(piece.ids());
            }
            assert_eq!(pieces, whole.ids(), "{sort}");
            assert!(shop.list(&format!("sort={sort}&size=2&page=7")).await?.ids().is_empty());
        }
        assert_eq!(shop.list("").await?.data()["sort"], "latest");
    }
    Ok(())
}

#[tokio::test]
async fn brand_and_search_go_with_every_sort() -> anyhow::Result<()> {
    for shop in shops().await? {
        let products = counted_shelf(&shop).await?;
        for (filter, expected) in [
            (
                "brand=Acme",
                [vec![3, 1, 0], vec![1, 3, 0], vec![0, 3, 1], vec![1, 0, 3], vec![0, 3, 1], vec![1, 3, 0]],
            ),
            ("brand=acme", std::array::from_fn(|_| vec![4])),
            ("brand=Acm_", std::array::from_fn(|_| vec![])),
            (
                "q=cup",
                [vec![4, 1, 0], vec![1, 0, 4], vec![4, 0, 1], vec![1, 0, 4], vec![0, 4, 1], vec![1, 4, 0]],
            ),
            ("q=%EC%BB%B5", std::array::from_fn(|_| vec![2])),
            ("q=5%25", std::array::from_fn(|_| vec![1])),
            ("q=0_c", std::array::from_fn(|_| vec![4])),
            ("q=%25", std::array::from_fn(|_| vec![1])),
            ("q=%5C", std::array::from_fn(|_| vec![])),
            ("q=RED&brand=Acme", [vec![1, 0], vec![1, 0], vec![0, 1], vec![1, 0], vec![0, 1], vec![1, 0]]),
        ] {
            for (sort, places) in SORTS.iter().zip(expected) {
                let list = shop.list(&format!("sort={sort}&{filter}")).await?;
                let expected: Vec<i64> = places.iter().map(|place| products[*place]).collect();
                assert_eq!(list.ids(), expected, "{sort} {filter}");
                let second = shop.list(&format!("sort={sort}&{filter}&size=1&page=1")).await?;
                assert_eq!(second.ids(), expected.get(1).copied().into_iter().collect::<Vec<_>>());
                assert_eq!(second.data()["hasNext"], json!(expected.len() > 2), "{sort} {filter}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_filter_that_matches_too_many_cannot_be_sorted_by_counts() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.filtered_products_max = 3;
    let shop = TestShop::start_with(Choices { api, metrics_apart: true, ..Choices::ordinary()? }).await?;
    let mut products = vec![("cup", Some("Acme"), 1); 3];
    stock_up(&shop, &products).await?;
    assert_eq!(shop.list("brand=Acme&sort=likes_desc").await?.ids().len(), 3);
    products.truncate(1);
    stock_up(&shop, &products).await?;
    for sort in &SORTS[3..] {
        let refused = shop.list(&format!("brand=Acme&sort={sort}")).await?;
        assert_eq!((refused.status.as_u16(), refused.code()), (422, "FILTER_TOO_WIDE"));
        assert_eq!(refused.data()["productsMax"], json!(3));
    }
    for sort in &SORTS[..3] {
        assert_eq!(shop.list(&format!("brand=Acme&sort={sort}")).await?.ids().len(), 4);
    }
    assert_eq!(shop.list("sort=likes_desc").await?.ids().len(), 4, "no filter, no limit of it");
    Ok(())
}

#[tokio::test]
async fn a_search_looks_at_so_many_products_and_no_more() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.searched_products_max = 2;
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let products =
        stock_up(&shop, &[("cup a", Some("b"), 1), ("cup b", None, 2), ("cup c", None, 3)]).await?;
    assert_eq!(shop.list("q=cup").await?.ids(), [products[2], products[1]]);
    assert_eq!(shop.list("q=cup&sort=price_asc").await?.ids(), [products[0], products[1]]);
    assert_eq!(shop.list("q=cup&brand=b").await?.ids(), [products[0]], "the first of the brand");
    assert_eq!(shop.list("").await?.ids().len(), 3, "what is not searched is not bounded by it");
    Ok(())
}

#[tokio::test]
async fn without_counts_lists_are_the_newest_first_and_say_so() -> anyhow::Result<()> {
    for shop in shops().await? {
        let products = counted_shelf(&shop).await?;
        shop.connect_metrics().await?.execute("drop table metrics.product_metrics").await?;
        for sort in &SORTS[3..] {
            let all = shop.list(&format!("sort={sort}")).await?;
            assert_eq!((all.status, &all.data()["sort"]), (StatusCode::OK, &json!("latest")));
            assert_eq!(all.ids().len(), 5);
            assert_eq!(all.data()["items"][0]["likeCount"], Value::Null);
            let filtered = shop.list(&format!("sort={sort}&brand=Acme")).await?;
            assert_eq!(filtered.ids(), [products[3], products[1], products[0]]);
            assert_eq!(filtered.data()["sort"], "latest");
        }
    }
    Ok(())
}

#[tokio::test]
async fn counts_that_take_too_long_are_not_waited_for() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.counts_wait = std::time::Duration::from_millis(20);
    let shop = TestShop::start_with(Choices { api, metrics_apart: true, ..Choices::ordinary()? }).await?;
    counted_shelf(&shop).await?;
    let mut holder = shop.connect_metrics().await?;
    holder.execute("begin; lock table metrics.product_metrics in access exclusive mode").await?;
    for query in ["sort=likes_desc", "sort=likes_desc&brand=Acme"] {
        let listed = shop.list(query).await?;
        assert_eq!((listed.status, &listed.data()["sort"]), (StatusCode::OK, &json!("latest")), "{query}");
    }
    holder.execute("rollback").await?;
    Ok(())
}
