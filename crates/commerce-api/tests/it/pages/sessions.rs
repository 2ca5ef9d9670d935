//! A browser that showed a token is its user until it signs out, and nobody else makes it do anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use commerce_api::tokens::{Revocation, Scope, revoke};
use commerce_api::{AuthMode, CookieSecurity};
use product_cache::{Card, ProductCache};
use reqwest::header::SET_COOKIE;
use reqwest::{Method, StatusCode};
use sqlx::Executor;

use super::{BUYER, Page, open};
use crate::harness::{Choices, TestShop, auth_settings, local_cache, send, session_settings};
use crate::outages;

/// A browser without a script: it keeps cookies, and sends forms as it was shown them.
struct Browser<'a> {
    shop: &'a TestShop,
    cookies: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    fn new(shop: &'a TestShop) -> Self {
        Self { shop, cookies: BTreeMap::new() }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> anyhow::Result<Page> {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let page = open(request.header("cookie", cookies.join("; "))).await?;
        for cookie in page.headers.get_all(SET_COOKIE) {
            let (pair, attributes) = cookie.to_str()?.split_once(';').unwrap_or_default();
            let (name, value) = pair.split_once('=').unwrap_or_default();
            match attributes.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        Ok(page)
    }

    async fn get(&mut self, path: &str) -> anyhow::Result<Page> {
        self.send(self.shop.browse(Method::GET, path)).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Page> {
        let request = self.shop.browse(Method::POST, path).header("sec-fetch-site", "same-origin");
        self.send(request.form(fields)).await
    }

    /// Fills in the form of the sign-in page.
    async fn sign_in(&mut self, token: &str, next: &str) -> anyhow::Result<Page> {
        let page = self.get("/sign-in").await?;
        let seal = page.field("csrf").unwrap_or_default();
        self.post("/sign-in", &[("csrf", seal), ("next", next), ("token", token)]).await
    }

    fn session(&self) -> &str {
        self.cookies.get("session").map_or("", String::as_str)
    }
}

async fn start() -> anyhow::Result<TestShop> {
    start_with(Choices::ordinary()?).await
}

/// A shop where a token says who calls, with product 1.
async fn start_with(choices: Choices) -> anyhow::Result<TestShop> {
    let auth = auth_settings(AuthMode::Token)?;
    let shop = TestShop::start_with(Choices { auth, ..choices }).await?;
    sqlx::raw_sql(
        "insert into shop.product (code, name, price) values ('c', '컵', 100);
         insert into shop.stock (product_id, quantity) values (1, 5)",
    )
    .execute(&mut shop.connect().await?)
    .await?;
    Ok(shop)
}

async fn is_signed_in(browser: &mut Browser<'_>) -> anyhow::Result<bool> {
    let page = browser.get("/").await?;
    assert_eq!(page.status, StatusCode::OK);
    assert_ne!(page.has("action=\"/sign-out\""), page.has("/sign-in?next=%2F\""), "{}", page.html);
    Ok(page.has("action=\"/sign-out\""))
}

#[tokio::test]
async fn a_buyer_signs_in_orders_likes_and_signs_out() -> anyhow::Result<()> {
    let shop = start().await?;
    let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
    let mut browser = Browser::new(&shop);
    let refused = browser.get("/orders").await?;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.has("href=\"/sign-in?next=%2Forders\""), "{}", refused.html);
    let signed_in = browser.sign_in(&token, "/products/1").await?;
    assert_eq!(signed_in.location(), "/products/1");

    let page = browser.get("/products/1").await?;
    let field = |name| page.field(name).unwrap_or_default();
    let fields = [("csrf", field("csrf")), ("product_id", "1"), ("quantity", "2"), ("key", field("key"))];
    let ordered = browser.post("/orders", &fields).await?;
    let order = browser.get(ordered.location()).await?;
    assert!(order.has("Thank you."), "{}", order.html);
    let path = ordered.location().split('?').next().unwrap_or_default();
    let seal = order.field("csrf").unwrap_or_default();
    assert!(browser.post(&format!("{path}/cancel"), &[("csrf", seal)]).await?.location().starts_with(path));
    let liked = browser.post("/products/1/like", &[("csrf", seal), ("liked", "true")]).await?;
    assert_eq!(liked.location(), "/products/1?done=liked");
    assert!(browser.get("/likes").await?.has("컵"));
    assert_eq!(browser.get("/sign-in?next=/likes").await?.location(), "/likes", "there is no need to");

    let before = browser.session().to_owned();
    assert_eq!(browser.post("/sign-out", &[("csrf", seal)]).await?.location(), "/");
    assert!(browser.session().is_empty() && !is_signed_in(&mut browser).await?);
    browser.cookies.insert("session".to_owned(), before);
    assert!(!is_signed_in(&mut browser).await?, "the session has ended, not only its cookie");
    Ok(())
}

#[tokio::test]
async fn a_cookie_is_out_of_reach_and_only_its_digest_is_stored() -> anyhow::Result<()> {
    let shop = start().await?;
    let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
    let mut browser = Browser::new(&shop);
    let page = browser.sign_in(&token, "/").await?;
    let cookies: Vec<&str> =
        page.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    let session = browser.session();
    assert_eq!(session.len(), 43);
    assert!(
        cookies
            .contains(&format!("session={session}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax").as_str())
    );
    let stored: bool = sqlx::query_scalar("select bool_and(digest = sha256($1)) from shop.session")
        .bind(session.as_bytes())
        .fetch_one(&mut shop.connect().await?)
        .await?;
    assert!(stored);

    let session =
        commerce_api::SessionSettings { secure_cookies: CookieSecurity::Always, ..session_settings() };
    let shop = start_with(Choices { session, ..Choices::ordinary()? }).await?;
    let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
    let mut browser = Browser::new(&shop);
    let page = browser.sign_in(&token, "/").await?;
    let cookies = page.headers.get_all(SET_COOKIE);
    assert!(cookies.iter().all(|value| {
        value.to_str().is_ok_and(|text| text.starts_with("__Host-") && text.ends_with("; Secure"))
    }));
    assert!(is_signed_in(&mut browser).await?);
    Ok(())
}

#[tokio::test]
async fn a_session_begins_with_a_secret_that_nobody_knew() -> anyhow::Result<()> {
    let shop = start().await?;
    let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
    let mut browser = Browser::new(&shop);
    let planted = "A".repeat(43);
    browser.cookies.insert("session".to_owned(), planted.clone());
    browser.sign_in(&token, "/").await?.location();
    let first = browser.session().to_owned();
    assert_ne!(first, planted);

    // Signing in once more, from a page that was open in another tab, ends the session before.
    let mut tab = Browser::new(&shop);
    let page = tab.get("/sign-in").await?;
    browser.cookies.append(&mut tab.cookies);
    let seal = page.field("csrf").unwrap_or_default();
    browser.post("/sign-in", &[("csrf", seal), ("next", "/"), ("token", &token)]).await?.location();
    assert_ne!(browser.session(), first);
    assert!(is_signed_in(&mut browser).await?);
    browser.cookies.insert("session".to_owned(), first);
    assert!(!is_signed_in(&mut browser).await?);
    assert_eq!(shop.number("select count(*) from shop.session").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_with_its_time() -> anyhow::Result<()> {
    let shop = start().await?;
    for ended in [
        "update shop.session set expires_at = clock_timestamp()",
        "update shop.token set expires_at = clock_timestamp()",
        "update shop.token set scopes = '{admin}'",
        "",
    ] {
        let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
        let mut browser = Browser::new(&shop);
        browser.sign_in(&token, "/").await?.location();
        assert!(is_signed_in(&mut browser).await?);
        let mut connection = shop.connect().await?;
        match ended {
            "" => assert_eq!(revoke(&mut connection, Revocation::Text(&token)).await?.matched, 1),
            _ => assert!(connection.execute(ended).await?.rows_affected() > 0),
        }
        assert!(!is_signed_in(&mut browser).await?, "{ended}");
        assert_eq!(browser.get("/orders").await?.status, StatusCode::UNAUTHORIZED);
    }
    Ok(())
}

#[tokio::test]
async fn a_token_has_no_more_sessions_than_the_limit() -> anyhow::Result<()> {
    let session = commerce_api::SessionSettings { per_token_max: 2, ..session_settings() };
    let shop = start_with(Choices { session, ..Choices::ordinary()? }).await?;
    let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
    let mut browsers: Vec<Browser<'_>> = (0..3).map(|_| Browser::new(&shop)).collect();
    for browser in &mut browsers {
        browser.sign_in(&token, "/").await?.location();
    }
    let mut signed_in = Vec::new();
    for browser in &mut browsers {
        signed_in.push(is_signed_in(browser).await?);
    }
    assert_eq!(signed_in, [false, true, true], "the oldest has ended");
    sqlx::query("update shop.session set expires_at = clock_timestamp()")
        .execute(&mut shop.connect().await?)
        .await?;
    let other = shop.issue(8, &[Scope::Buyer]).await?;
    Browser::new(&shop).sign_in(&other, "/").await?.location();
    assert_eq!(shop.number("select count(*) from shop.session").await?, 1, "what is expired is cleared away");
    Ok(())
}

#[tokio::test]
async fn what_is_no_buyers_token_signs_nobody_in() -> anyhow::Result<()> {
    let shop = start().await?;
    let merchants = shop.issue(8, &[Scope::Admin]).await?;
    let wrong = format!("ct_{}", "A".repeat(43));
    for (token, status, said) in [
        (wrong.as_str(), StatusCode::UNAUTHORIZED, "This token is not valid."),
        ("", StatusCode::UNAUTHORIZED, "This token is not valid."),
        ("<script>", StatusCode::UNAUTHORIZED, "This token is not valid."),
        (&merchants, StatusCode::FORBIDDEN, "This token is not for buying."),
    ] {
        let mut browser = Browser::new(&shop);
        let page = browser.sign_in(token, "/orders").await?;
        assert_eq!(page.status, status, "{token}");
        assert!(page.has(said) && page.field("next") == Some("/orders"), "{}", page.html);
        assert!(token.is_empty() || !page.has(token), "it is not shown again");
        assert!(browser.session().is_empty());
    }
    assert_eq!(shop.number("select count(*) from shop.session").await?, 0);
    Ok(())
}

#[tokio::test]
async fn nobody_is_sent_elsewhere_after_signing_in() -> anyhow::Result<()> {
    let shop = start().await?;
    let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
    for next in
        ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "javascript:x", ""]
    {
        let mut browser = Browser::new(&shop);
        assert_eq!(browser.sign_in(&token, next).await?.location(), "/", "{next}");
        let query: String = next.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let page = Browser::new(&shop).get(&format!("/sign-in?next={query}")).await?;
        assert_eq!(page.field("next"), Some("/"), "{next}");
        assert_eq!(browser.get(&format!("/sign-in?next={query}")).await?.location(), "/", "{next}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_is_signed_in_by_a_form_that_he_was_not_shown() -> anyhow::Result<()> {
    let shop = start().await?;
    let token = shop.issue(8, &[Scope::Buyer]).await?;
    let mut attacker = Browser::new(&shop);
    let theirs = attacker.get("/sign-in").await?.field("csrf").unwrap_or_default().to_owned();
    let mut victim = Browser::new(&shop);
    for seal in ["", "AAAA", &theirs] {
        for is_shown_a_form in [false, true] {
            if is_shown_a_form {
                victim.get("/sign-in").await?;
            }
            let page = victim.post("/sign-in", &[("csrf", seal), ("next", "/"), ("token", &token)]).await?;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{seal}");
            victim.cookies.clear();
        }
    }
    // The right seal, from another site.
    let own = victim.get("/sign-in").await?.field("csrf").unwrap_or_default().to_owned();
    let fields = [("csrf", own.as_str()), ("next", "/"), ("token", &token)];
    let request = shop.browse(Method::POST, "/sign-in").header("sec-fetch-site", "cross-site");
    assert_eq!(victim.send(request.form(&fields)).await?.status, StatusCode::FORBIDDEN);
    assert_eq!(shop.number("select count(*) from shop.session").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_form_needs_the_seal_of_its_own_session() -> anyhow::Result<()> {
    let shop = start().await?;
    let (mut buyer, mut other) = (Browser::new(&shop), Browser::new(&shop));
    buyer.sign_in(&shop.issue(BUYER, &[Scope::Buyer]).await?, "/").await?.location();
    other.sign_in(&shop.issue(8, &[Scope::Buyer]).await?, "/").await?.location();
    let theirs = other.get("/products/1").await?.field("csrf").unwrap_or_default().to_owned();
    for seal in [None, Some(""), Some("AAAA"), Some(theirs.as_str())] {
        for (path, field) in [
            ("/orders", vec![("product_id", "1"), ("quantity", "1"), ("key", "k")]),
            ("/products/1/like", vec![("liked", "true")]),
            ("/orders/1/cancel", vec![]),
            ("/sign-out", vec![]),
        ] {
            let fields: Vec<(&str, &str)> =
                seal.map(|seal| ("csrf", seal)).into_iter().chain(field).collect();
            assert_eq!(buyer.post(path, &fields).await?.status, StatusCode::FORBIDDEN, "{path} {seal:?}");
        }
    }
    let page = buyer.get("/products/1").await?;
    assert_ne!(
        page.field("csrf"),
        buyer.get("/products/1").await?.field("csrf"),
        "each page has another seal"
    );
    assert!(is_signed_in(&mut buyer).await?);
    let views = "select count(*) from outbox.event where event_type <> 'ProductViewed'";
    assert_eq!(shop.number(views).await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_api_knows_nothing_of_sessions_and_pages_nothing_of_headers() -> anyhow::Result<()> {
    let shop = start().await?;
    let token = shop.issue(BUYER, &[Scope::Buyer]).await?;
    let mut browser = Browser::new(&shop);
    browser.sign_in(&token, "/").await?.location();
    let cookie = format!("session={}", browser.session());
    for (method, path) in [
        (Method::GET, "/api/v1/orders"),
        (Method::GET, "/api/v1/like/products"),
        (Method::POST, "/api/v1/like/products/1"),
        (Method::POST, "/api/v1/orders/1/cancel"),
    ] {
        let answer = send(shop.request(method, path).header("cookie", &cookie)).await?;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "UNAUTHENTICATED"), "{path}");
    }
    for request in [
        shop.browse(Method::GET, "/orders").header("x-user-id", BUYER),
        shop.browse(Method::GET, "/orders").bearer_auth(&token),
    ] {
        assert_eq!(open(request).await?.status, StatusCode::UNAUTHORIZED);
    }
    Ok(())
}

#[tokio::test]
async fn where_a_gateway_says_who_calls_nobody_signs_in_here() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let mut browser = Browser::new(&shop);
    assert_eq!(browser.get("/sign-in").await?.status, StatusCode::NOT_FOUND);
    assert_eq!(
        browser.post("/sign-in", &[("token", "t"), ("next", "/")]).await?.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(browser.post("/sign-out", &[]).await?.status, StatusCode::NOT_FOUND);
    assert!(!browser.get("/").await?.has("/sign-in"));
    Ok(())
}

#[tokio::test]
async fn a_page_is_served_when_nobody_can_tell_whose_session_it_is() -> anyhow::Result<()> {
    let cache = Arc::new(local_cache()?);
    let mut choices = Choices { cache: cache.clone(), ..Choices::ordinary()? };
    choices.api.view_wait = Duration::from_millis(50);
    let shop = start_with(choices).await?;
    let mut browser = Browser::new(&shop);
    browser.sign_in(&shop.issue(BUYER, &[Scope::Buyer]).await?, "/").await?.location();
    let card = Card {
        product_id: 1,
        code: "c".to_owned(),
        name: "컵".to_owned(),
        brand: None,
        price: 100,
        sold_out: false,
        stock_version: 1,
    };
    cache.fill(&[card]).await?;
    outages::close(&shop.database).await?;
    let page = browser.get("/products/1").await?;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.has("컵") && page.has("It cannot be told just now whether you are signed in."),
        "{}",
        page.html
    );
    assert_eq!(browser.get("/orders").await?.status, StatusCode::SERVICE_UNAVAILABLE);
    Ok(())
}
