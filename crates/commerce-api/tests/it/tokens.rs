//! Tokens: who shows one is its user, until it expires or is revoked.

use std::sync::Arc;
use std::time::Duration;

use commerce_api::AuthMode;
use commerce_api::tokens::{self, NewToken, Revocation, Scope, TokenError};
use product_cache::ProductCache;
use reqwest::Method;
use serde_json::json;
use sqlx::Executor;
use testkit::eventually;

use crate::harness::{Answer, Choices, TestShop, auth_settings, local_cache, send};
use crate::outages::{close, open};

const LIKES: &str = "/api/v1/like/products";
const PRODUCTS: &str = "/api-admin/v1/products";

fn by_token() -> anyhow::Result<Choices> {
    Ok(Choices { auth: auth_settings(AuthMode::Token)?, ..Choices::ordinary()? })
}

async fn likes(shop: &TestShop, token: &str) -> anyhow::Result<Answer> {
    send(shop.with_token(Method::GET, LIKES, token)).await
}

fn status(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.code())
}

const UNAUTHENTICATED: (u16, &str) = (401, "UNAUTHENTICATED");
const FORBIDDEN: (u16, &str) = (403, "FORBIDDEN");

#[tokio::test]
async fn who_shows_a_token_is_its_user_within_its_scopes() -> anyhow::Result<()> {
    let shop = TestShop::start_with(by_token()?).await?;
    let buyer = shop.issue(7, &[Scope::Buyer]).await?;
    let merchant = shop.issue(8, &[Scope::Admin, Scope::Admin]).await?;
    let both = shop.issue(9, &[Scope::Admin, Scope::Buyer]).await?;
    let create = async |token: &str, code: &str| {
        let product = json!({ "code": code, "name": "n", "price": 1, "stock": 1 });
        send(shop.with_token(Method::POST, PRODUCTS, token).json(&product)).await
    };
    assert_eq!(status(&create(&buyer, "a").await?), FORBIDDEN);
    assert_eq!(create(&merchant, "b").await?.status.as_u16(), 201);
    assert_eq!(create(&both, "c").await?.status.as_u16(), 201);
    assert_eq!(status(&likes(&shop, &merchant).await?), FORBIDDEN);
    for token in [&buyer, &both] {
        let like = send(shop.with_token(Method::POST, "/api/v1/like/products/1", token)).await?;
        assert_eq!(like.status.as_u16(), 200, "{like:?}");
    }
    let users: Vec<i64> = sqlx::query_scalar("select user_id from shop.product_like order by user_id")
        .fetch_all(&mut shop.connect().await?)
        .await?;
    assert_eq!(users, [7, 9]);
    Ok(())
}

#[tokio::test]
async fn the_page_that_a_user_of_a_token_looks_at_is_his_view() -> anyhow::Result<()> {
    let shop = TestShop::start_with(by_token()?).await?;
    let merchant = shop.issue(8, &[Scope::Admin]).await?;
    let product = json!({ "code": "c", "name": "n", "price": 1, "stock": 1 });
    send(shop.with_token(Method::POST, PRODUCTS, &merchant).json(&product)).await?;
    let buyer = shop.issue(7, &[Scope::Buyer]).await?;
    for (token, user) in
        [(buyer.as_str(), Some(7)), ("ct_nonsense", None), (&buyer.replace("ct_", "ct-"), None)]
    {
        let page = send(shop.with_token(Method::GET, "/api/v1/products/1", token)).await?;
        assert_eq!(page.status.as_u16(), 200, "a public page is open whoever shows what");
        let view = shop.events().await?.pop().map(|event| event.payload);
        let expected = match user {
            Some(user) => json!({ "productId": 1, "userId": user }),
            None => json!({ "productId": 1 }),
        };
        assert_eq!(view, Some(expected));
    }
    Ok(())
}

#[tokio::test]
async fn each_mode_ignores_what_the_other_one_reads() -> anyhow::Result<()> {
    let shop = TestShop::start_with(by_token()?).await?;
    let token = shop.issue(7, &[Scope::Buyer]).await?;
    // Loopback is a gateway, and its word counts nothing.
    assert_eq!(status(&send(shop.as_admin(Method::GET, LIKES)).await?), UNAUTHENTICATED);
    let raised = shop.as_admin(Method::POST, PRODUCTS).bearer_auth(&token).json(&json!({}));
    assert_eq!(status(&send(raised).await?), FORBIDDEN, "a header raises no token");
    let unread =
        shop.with_token(Method::GET, LIKES, &token).header("x-user-id", "1").header("x-user-id", "2");
    assert_eq!(send(unread).await?.status.as_u16(), 200);
    let twice = shop.with_token(Method::GET, LIKES, &token).bearer_auth(&token);
    assert_eq!(status(&send(twice).await?), UNAUTHENTICATED, "which one is meant is anybody's guess");

    let shop = TestShop::start().await?;
    let token = shop.issue(7, &[Scope::Buyer, Scope::Admin]).await?;
    assert_eq!(status(&likes(&shop, &token).await?), UNAUTHENTICATED);
    let raised = shop.as_user(Method::POST, PRODUCTS, 7).bearer_auth(&token).json(&json!({}));
    assert_eq!(status(&send(raised).await?), FORBIDDEN);
    let unread = shop.as_user(Method::GET, LIKES, 7).bearer_auth("nonsense").bearer_auth("more");
    assert_eq!(send(unread).await?.status.as_u16(), 200);
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_revoked_or_expires_is_soon_refused_by_every_process() -> anyhow::Result<()> {
    let mut choices = by_token()?;
    choices.auth.token_age_max = Duration::from_millis(500);
    let shop = TestShop::start_with(choices).await?;
    let mut database = shop.connect().await?;
    let (revoked, expired, kept) = (
        shop.issue(7, &[Scope::Buyer]).await?,
        shop.issue(8, &[Scope::Buyer]).await?,
        shop.issue(9, &[Scope::Buyer]).await?,
    );
    for token in [&revoked, &expired, &kept] {
        assert_eq!(likes(&shop, token).await?.status.as_u16(), 200);
    }
    let which = tokens::revoke(&mut database, Revocation::Text(&revoked)).await?;
    assert_eq!((which.matched, which.ids), (1, vec![1]));
    database.execute("update shop.token set expires_at = clock_timestamp() where user_id = 8").await?;
    for token in [&revoked, &expired] {
        // They are asked for all the time, so what is remembered has to be read anew.
        eventually("the token is refused", async || {
            let answer = likes(&shop, token).await?;
            Ok((answer.status.as_u16() == 401).then_some(()))
        })
        .await?;
    }
    assert_eq!(likes(&shop, &kept).await?.status.as_u16(), 200);
    Ok(())
}

#[tokio::test]
async fn without_the_database_a_token_cannot_be_checked_and_public_pages_stay_open() -> anyhow::Result<()> {
    let cache = Arc::new(local_cache()?);
    let mut choices = Choices { cache: cache.clone(), ..by_token()? };
    choices.auth.token_age_max = Duration::from_millis(500);
    choices.api.view_wait = Duration::from_millis(50);
    let shop = TestShop::start_with(choices).await?;
    shop.connect()
        .await?
        .execute(
            "insert into shop.product (code, name, price) values ('c', 'n', 1);
             insert into shop.stock (product_id, quantity) select id, 1 from shop.product",
        )
        .await?;
    let token = shop.issue(7, &[Scope::Buyer]).await?;
    let merchant = shop.issue(8, &[Scope::Admin]).await?;
    assert_eq!(likes(&shop, &token).await?.status.as_u16(), 200);
    shop.show(1).await?;
    eventually("the card is cached", async || Ok(cache.read(&[1]).await?[0].card.clone())).await?;

    close(&shop.database).await?;
    // Who is believed hears what is wrong with his body; nobody is told that his token were worth nothing.
    eventually("what was known of the token is too old", async || {
        let answer = send(shop.with_token(Method::POST, PRODUCTS, &merchant).json(&json!({}))).await?;
        assert!(matches!(status(&answer), (400, "INVALID_BODY") | (503, "UNAVAILABLE")), "{answer:?}");
        Ok(answer.retry_after)
    })
    .await?;
    assert_eq!(status(&likes(&shop, "ct_nonsense").await?), UNAUTHENTICATED, "nobody is asked");
    for page in [shop.show(1).await?, send(shop.with_token(Method::GET, "/api/v1/products/1", &token)).await?]
    {
        assert_eq!(page.status.as_u16(), 200, "{page:?}");
    }

    open(&shop.database).await?;
    eventually("the token is known again", async || {
        Ok((likes(&shop, &token).await?.status.as_u16() == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_public_page_does_not_wait_long_for_the_answer_about_a_token() -> anyhow::Result<()> {
    let mut choices = by_token()?;
    choices.auth.visitor_wait = Duration::from_millis(50);
    // Whoever waits for the answer waits in vain.
    choices.api.request_timeout = Duration::from_secs(30);
    (choices.api.view_wait, choices.api.view_commit_wait) =
        (Duration::from_secs(14), Duration::from_secs(14));
    let shop = TestShop::start_with(choices).await?;
    let mut blocker = shop.connect().await?;
    blocker
        .execute(
            "insert into shop.product (code, name, price) values ('c', 'n', 1);
             insert into shop.stock (product_id, quantity) select id, 1 from shop.product",
        )
        .await?;
    let token = shop.issue(7, &[Scope::Buyer]).await?;
    // Also against readers.
    blocker
        .execute("begin; set local lock_timeout = '60s'; lock table shop.token in access exclusive mode")
        .await?;
    let page = send(shop.with_token(Method::GET, "/api/v1/products/1", &token)).await?;
    assert_eq!(page.status.as_u16(), 200);
    assert_eq!(shop.events().await?[0].payload, json!({ "productId": 1 }));
    blocker.execute("commit").await?;
    Ok(())
}

#[tokio::test]
async fn a_token_is_issued_only_within_its_bounds_and_its_text_is_kept_nowhere() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let mut database = shop.connect().await?;
    let lifetime_max = Duration::from_secs(100);
    let new = || NewToken {
        user_id: 7,
        scopes: vec![Scope::Buyer],
        label: Some("l".repeat(tokens::LABEL_BYTES_MAX)),
        lifetime: lifetime_max,
    };
    let issued = tokens::issue(&mut database, &new(), lifetime_max).await?;
    let stored: String =
        sqlx::query_scalar("select to_jsonb(t)::text from shop.token t").fetch_one(&mut database).await?;
    assert!(!stored.contains(&issued.text.reveal()["ct_".len()..]), "{stored}");
    let long = "l".repeat(tokens::LABEL_BYTES_MAX + 1);
    for (wrong, is_expected) in [
        (NewToken { user_id: 0, ..new() }, TokenError::UserId),
        (NewToken { scopes: vec![], ..new() }, TokenError::NoScope),
        (NewToken { label: Some(long), ..new() }, TokenError::Label),
        (NewToken { label: Some("a\u{1b}".to_owned()), ..new() }, TokenError::Label),
        (NewToken { lifetime: Duration::ZERO, ..new() }, TokenError::Lifetime),
        (NewToken { lifetime: lifetime_max + Duration::from_nanos(1), ..new() }, TokenError::Lifetime),
    ] {
        let refused =
            tokens::issue(&mut database, &wrong, lifetime_max).await.err().map(|error| error.to_string());
        assert_eq!(refused, Some(is_expected.to_string()), "{wrong:?}");
    }
    assert_eq!(tokens::list(&mut database, None, 10).await?.len(), 1);
    Ok(())
}
