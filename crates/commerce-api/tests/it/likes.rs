//! Likes are idempotent: a row and an event for each that changes something.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{TestShop, send};

#[tokio::test]
async fn a_repeated_like_changes_once_and_tells_once() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    for (changed, answer) in [
        (true, shop.like(7, product).await?),
        (false, shop.like(7, product).await?),
        (true, shop.unlike(7, product).await?),
        (false, shop.unlike(7, product).await?),
        (true, shop.like(7, product).await?),
    ] {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.data()["changed"], json!(changed), "{answer:?}");
    }
    assert_eq!(shop.event_types().await?, ["ProductLiked", "ProductUnliked", "ProductLiked"]);
    let event = &shop.events().await?[0];
    assert_eq!(event.topic, "t-catalog-events");
    assert_eq!(event.partition_key, product.to_string());
    assert_eq!(event.payload, json!({ "productId": product, "userId": 7 }));
    Ok(())
}

#[tokio::test]
async fn concurrent_likes_of_one_buyer_are_one_like() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    let answers = futures_util::future::try_join_all((0..20).map(|_| shop.like(7, product))).await?;
    let changed = answers.iter().filter(|answer| answer.data()["changed"] == json!(true)).count();
    assert_eq!(changed, 1);
    assert_eq!(shop.event_types().await?, ["ProductLiked"]);
    Ok(())
}

#[tokio::test]
async fn likes_and_their_taking_back_at_once_end_as_the_events_tell() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[5]).await?[0];
    for _ in 0..10 {
        let (liked, unliked) =
            futures_util::future::join(shop.like(7, product), shop.unlike(7, product)).await;
        assert_eq!((liked?.status, unliked?.status), (StatusCode::OK, StatusCode::OK));
    }
    let events = shop.event_types().await?;
    for (place, event_type) in events.iter().enumerate() {
        assert_eq!(event_type, ["ProductLiked", "ProductUnliked"][place % 2], "{events:?}");
    }
    let likes = shop.number("select count(*) from shop.product_like").await?;
    assert_eq!(usize::try_from(likes)?, events.len() % 2);
    Ok(())
}

#[tokio::test]
async fn an_unknown_product_cannot_be_liked() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for answer in [shop.like(7, 404).await?, shop.unlike(7, 404).await?] {
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.code(), "PRODUCT_NOT_FOUND");
    }
    assert!(shop.events().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_buyer_sees_his_own_likes_the_latest_first() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let products = shop.products(&[1, 1, 1]).await?;
    for product in [products[1], products[0], products[2]] {
        shop.like(7, product).await?;
    }
    shop.like(8, products[0]).await?;
    let page = async |query: &str| {
        let answer = send(shop.as_user(Method::GET, &format!("/api/v1/like/products{query}"), 7)).await?;
        let ids: Vec<i64> = answer.data()["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["productId"].as_i64())
            .collect();
        anyhow::Ok((ids, answer.data()["hasNext"].as_bool()))
    };
    assert_eq!(page("").await?, (vec![products[2], products[0], products[1]], Some(false)));
    assert_eq!(page("?size=2").await?, (vec![products[2], products[0]], Some(true)));
    assert_eq!(page("?size=2&page=1").await?, (vec![products[1]], Some(false)));
    Ok(())
}

#[tokio::test]
async fn only_a_valid_trace_context_travels_with_the_event() -> anyhow::Result<()> {
    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let shop = TestShop::start().await?;
    let products = shop.products(&[1, 1]).await?;
    for (product, traceparent) in products.iter().zip([VALID, "00-nonsense"]) {
        let request = shop.as_user(Method::POST, &format!("/api/v1/like/products/{product}"), 7);
        send(request.header("traceparent", traceparent)).await?;
    }
    let traces: Vec<_> = shop.events().await?.into_iter().map(|event| event.traceparent).collect();
    assert_eq!(traces, [Some(VALID.to_owned()), None]);
    Ok(())
}
