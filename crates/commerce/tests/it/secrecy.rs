//! What the api writes at its most talkative, and what it must not.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::json;

use crate::harness::Shop;

/// A buyer, so large that it is no other number.
const BUYER: &str = "7700123456789012";
/// Who holds the token.
const LABEL: &str = "minas-phone";
/// What the buyer looks for, and the key of the order.
const SEARCHED: &str = "present-for-jisoo";
const KEY: &str = "key-of-minas-order";
/// Somebody's guess; it looks like a token.
const GUESS: &str = "ct_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The text between two others.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Result<&'t str> {
    let (_, rest) = text.split_once(before).with_context(|| format!("no {before} in {text}"))?;
    Ok(rest.split_once(after).with_context(|| format!("no {after} in {rest}"))?.0)
}

/// The cookie of this name that an answer sets.
fn cookie(answer: &Response, name: &str) -> Result<String> {
    let mut set = answer.headers().get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let start = format!("{name}=");
    let cookie = set.find(|cookie| cookie.starts_with(&start)).context("no cookie")?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_most_talkative_log_holds_no_token_no_cookie_no_seal_and_nothing_about_the_buyer() -> Result<()> {
    let shop = Shop::open().await?;
    let arguments = ["issue", "--user", BUYER, "--label", LABEL, "--scope", "buyer"];
    let issued = shop.command("token").args(arguments).output()?;
    let token = String::from_utf8(issued.stdout)?.trim().to_owned();
    ensure!(token.len() > 40, "no token");
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let talkative = [("COMMERCE_AUTH_MODE", "token"), ("COMMERCE_LOG_FILTER", "trace")];
    let mut api = shop.spawn_logging("api", &talkative, File::create(&log)?)?;
    shop.ready(&mut api).await?;

    let http = Client::builder().redirect(Policy::none()).build()?;
    for (shown, status) in [(token.as_str(), 200), (GUESS, 401)] {
        let request = http.get(shop.url("/api/v1/orders")).header(AUTHORIZATION, format!("Bearer {shown}"));
        ensure!(request.send().await?.status() == status, "{status} for a token");
    }
    let searched = http.get(shop.url(&format!("/api/v1/products?q={SEARCHED}"))).send().await?;
    ensure!(searched.status() == 200, "{}", searched.status());
    let order = http.post(shop.url("/api/v1/orders")).bearer_auth(&token).header("Idempotency-Key", KEY);
    let order = order.json(&json!({ "items": [{ "productId": 1, "quantity": 1 }] })).send().await?;
    ensure!(order.status() == 404, "{}", order.status());
    let form = http.get(shop.url("/sign-in")).send().await?;
    let entry = cookie(&form, "entry")?;
    let page = form.text().await?;
    let seal = between(&page, "name=\"csrf\" value=\"", "\"")?;
    let signed_in = http
        .post(shop.url("/sign-in"))
        .header(ORIGIN, shop.url(""))
        .header(COOKIE, &entry)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("csrf={seal}&next=/&token={token}"))
        .send()
        .await?;
    ensure!(signed_in.status() == 303, "{}", signed_in.status());
    let session = cookie(&signed_in, "session")?;
    let orders = http.get(shop.url("/orders")).header(COOKIE, &session).send().await?;
    ensure!(orders.status() == 200, "{}", orders.status());
    api.terminate()?;
    api.ended().await?;

    let log = std::fs::read_to_string(log)?;
    ensure!(log.contains("DEBUG") && log.contains("/sign-in"), "it does not talk: {log}");
    let secret =
        |cookie: &str| cookie.split_once('=').map(|(_, secret)| secret.to_owned()).context("no value");
    let secrets = [token, GUESS.to_owned(), secret(&entry)?, secret(&session)?, seal.to_owned()];
    for secret in secrets.into_iter().chain([BUYER, LABEL, SEARCHED, KEY].map(str::to_owned)) {
        ensure!(!log.contains(&secret), "{secret} is in the log");
    }
    Ok(())
}
