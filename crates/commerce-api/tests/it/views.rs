//! What a page says about its view is what happened to it.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::Executor;
use testkit::eventually;

use crate::harness::{Choices, TestShop, api_settings, send};

async fn stored_views(shop: &TestShop) -> anyhow::Result<i64> {
    shop.number("select count(*) from outbox.event where event_type = 'ProductViewed'").await
}

#[tokio::test]
async fn a_recorded_view_is_committed_before_its_page_is_answered() -> anyhow::Result<()> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    let path = format!("/api/v1/products/{product}");
    let answer = send(shop.as_user(Method::GET, &path, 7)).await?;
    assert_eq!(answer.view_recorded.as_deref(), Some("true"));
    let events = shop.events().await?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].topic, "t-view-events");
    assert_eq!(events[0].payload, json!({ "productId": product, "userId": 7 }));

    assert_eq!(shop.show(product).await?.view_recorded.as_deref(), Some("true"));
    assert_eq!(shop.events().await?[1].payload, json!({ "productId": product }), "nobody in particular");
    let metrics = recorder.handle().render();
    assert!(metrics.contains("http_views_total{recorded=\"true\"} 2\n"), "{metrics}");
    assert!(metrics.contains("http_views_total{recorded=\"false\"} 0\n"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn many_views_share_a_transaction_and_none_is_lost() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    shop.show(product).await?;
    // Holds the first transaction, so that the others gather behind it.
    let mut blocker = shop.hold("outbox.event").await?;
    let pages = try_join_all((0..200).map(|_| shop.show(product)));
    let release = async {
        shop.writer_waits().await?;
        blocker.execute("commit").await?;
        anyhow::Ok(())
    };
    let (pages, ()) = tokio::try_join!(pages, release)?;
    assert!(pages.iter().all(|page| page.view_recorded.as_deref() == Some("true")));
    assert_eq!(stored_views(&shop).await?, 201);
    let transactions = shop.number("select count(distinct txid) from outbox.event").await?;
    assert!(transactions < 100, "{transactions} transactions for 201 views");
    Ok(())
}

#[tokio::test]
async fn a_view_that_was_not_taken_in_time_is_withdrawn_for_ever() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.view_batch_max = 1;
    api.view_wait = Duration::from_millis(50);
    api.view_commit_wait = Duration::from_secs(60);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    assert_eq!(shop.show(product).await?.status, StatusCode::OK);
    let before = stored_views(&shop).await?;

    let mut blocker = shop.hold("outbox.event").await?;
    let taken = shop.show(product);
    let late = async {
        shop.writer_waits().await?;
        let late = try_join_all((0..10).map(|_| shop.show(product))).await?;
        blocker.execute("commit").await?;
        anyhow::Ok(late)
    };
    let (taken, late) = tokio::try_join!(taken, late)?;
    assert_eq!(taken.view_recorded.as_deref(), Some("true"), "taken, so its page waited for the commit");
    for page in late {
        assert_eq!((page.status, page.view_recorded.as_deref()), (StatusCode::OK, Some("false")));
    }
    // A later view passes through the same queue, behind the withdrawn ones.
    let mut recorded = before + 1;
    eventually("the writer has gone through the queue", async || {
        let page = shop.show(product).await?;
        recorded += i64::from(page.view_recorded.as_deref() == Some("true"));
        Ok((page.view_recorded.as_deref() == Some("true")).then_some(()))
    })
    .await?;
    assert_eq!(stored_views(&shop).await?, recorded, "exactly those that were said to be recorded");
    Ok(())
}

#[tokio::test]
async fn a_commit_that_does_not_end_in_time_is_unknown() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.view_wait = Duration::from_millis(20);
    api.view_commit_wait = Duration::from_millis(50);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    shop.show(product).await?;
    let mut blocker = shop.hold("outbox.event").await?;
    let unknown = async || {
        let page = shop.show(product).await?;
        assert_eq!(page.status, StatusCode::OK);
        Ok((page.view_recorded.as_deref() == Some("unknown")).then_some(()))
    };
    eventually("a view is taken and does not commit", unknown).await?;
    blocker.execute("commit").await?;
    Ok(())
}

#[tokio::test]
async fn a_full_queue_is_said_and_the_page_is_served() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.view_queue_max = 1;
    api.view_batch_max = 1;
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    shop.show(product).await?;
    let before = stored_views(&shop).await?;
    let mut blocker = shop.hold("outbox.event").await?;
    let mut pages: FuturesUnordered<_> = (0..20).map(|_| shop.show(product)).collect();
    // One is with the writer, one in the queue; the others are answered while those wait.
    for _ in 0..18 {
        let page = pages.next().await.transpose()?.expect("20 pages were asked for");
        assert_eq!((page.status, page.view_recorded.as_deref()), (StatusCode::OK, Some("false")));
    }
    blocker.execute("commit").await?;
    while let Some(page) = pages.next().await.transpose()? {
        assert_eq!(page.view_recorded.as_deref(), Some("true"));
    }
    assert_eq!(stored_views(&shop).await?, before + 2);
    Ok(())
}

#[tokio::test]
async fn an_unknown_product_has_no_view() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let answer = shop.show(5).await?;
    assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "PRODUCT_NOT_FOUND"));
    assert_eq!(stored_views(&shop).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_shop_that_records_no_views_says_so() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.views_recorded = false;
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    let page = shop.show(product).await?;
    assert_eq!((page.status, page.view_recorded.as_deref()), (StatusCode::OK, Some("false")));
    assert_eq!(stored_views(&shop).await?, 0);
    Ok(())
}
