//! P9: a page is never refused because counting is down.

use std::sync::Arc;
use std::time::Duration;

use product_cache::ProductCache;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};
use testkit::{TestDatabase, eventually};

use crate::harness::{Choices, TestShop, api_settings, local_cache};

/// Lets nobody in any more and sends everybody away.
pub(crate) async fn close(database: &TestDatabase) -> anyhow::Result<()> {
    let mut server = PgConnection::connect(&std::env::var("COMMERCE_DATABASE_URL")?).await?;
    let options = database.options();
    let name = options.get_database().unwrap_or_default();
    server.execute(sqlx::AssertSqlSafe(format!("alter database {name} allow_connections false"))).await?;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
        .bind(name)
        .execute(&mut server)
        .await?;
    Ok(())
}

pub(crate) async fn open(database: &TestDatabase) -> anyhow::Result<()> {
    let mut server = PgConnection::connect(&std::env::var("COMMERCE_DATABASE_URL")?).await?;
    let options = database.options();
    let name = options.get_database().unwrap_or_default();
    server.execute(sqlx::AssertSqlSafe(format!("alter database {name} allow_connections true"))).await?;
    Ok(())
}

#[tokio::test]
async fn without_the_database_pages_come_from_the_cache_and_views_are_said_to_be_lost() -> anyhow::Result<()>
{
    let cache = Arc::new(local_cache()?);
    let mut api = api_settings();
    api.view_wait = Duration::from_millis(50);
    let shop = TestShop::start_with(Choices { api, cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let products = shop.products(&[5, 5]).await?;
    // On a busy machine the writer may need longer than its 50 ms for the first ones.
    let before = eventually("a view is recorded", async || {
        let page = shop.show(products[0]).await?;
        Ok((page.view_recorded.as_deref() == Some("true")).then_some(page))
    })
    .await?;
    eventually("the card is cached", async || Ok(cache.read(&[products[0]]).await?[0].card.clone())).await?;

    close(&shop.database).await?;
    for _ in 0..3 {
        let page = shop.show(products[0]).await?;
        assert_eq!((page.status, page.view_recorded.as_deref()), (StatusCode::OK, Some("false")));
        assert_eq!(page.data()["name"], before.data()["name"]);
        assert_eq!(page.data()["likeCount"], Value::Null);
    }
    for refused in [shop.show(products[1]).await?, shop.like(7, products[0]).await?] {
        assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
        assert!(refused.retry_after.is_some());
        assert!(!refused.body.to_string().contains("database"), "nothing of the cause: {refused:?}");
    }

    open(&shop.database).await?;
    let back = async || {
        Ok(Some(shop.show(products[0]).await?).filter(|page| page.view_recorded.as_deref() == Some("true")))
    };
    let page = eventually("views are recorded again", back).await?;
    assert_eq!(page.data()["likeCount"], Value::from(0));
    Ok(())
}
