//! What buyers see in a real browser, through every role: the scenarios of `dev/browser/storefront.mjs`.
//!
//! `cargo x test` names the browser by a variable, without which nothing is tested here, and says so.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::harness::{Role, Shop};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/browser");

/// The products that the scenarios name, with their stock.
const PRODUCTS: [(&str, &str, u64); 6] = [
    ("liked", "린넨 셔츠, 아이보리", 10),
    ("last", "Walnut desk lamp", 1),
    ("plain", "무쇠 주전자 0.8 L", 1),
    ("twice", "Merino scarf", 10),
    ("plenty", "도자기 머그 350 ml", 1_000_000),
    ("gone", "한지 노트, 무선", 0),
];

/// Brands, names and prices of others, so that a page is full.
const MORE: [(&str, &str, u64); 20] = [
    ("온기", "울 담요, 그레이", 89_000),
    ("Lumen", "Reading light, clip-on", 33_000),
    ("나무결", "참나무 도마", 42_000),
    ("Paperfold", "The quiet notebook, dotted", 12_000),
    ("들판", "메밀 베개", 36_000),
    ("Hearth & Co.", "Cast iron pan, 24 cm", 98_000),
    ("온기", "면 행주 5매", 9_900),
    ("Lumen", "Paper lantern", 27_000),
    ("나무결", "호두나무 쟁반", 54_000),
    ("Paperfold", "Letter set, kraft", 8_500),
    ("들판", "유자차 500 g", 15_000),
    ("Hearth & Co.", "Enamel kettle", 61_000),
    ("온기", "모시 커튼", 72_000),
    ("Lumen", "Candle holder, brass", 39_000),
    ("나무결", "수저 받침 4개", 14_000),
    ("Paperfold", "Desk calendar", 11_000),
    ("들판", "천연 비누 세트", 16_500),
    ("Hearth & Co.", "Linen apron", 45_000),
    ("온기", "도자기 화병", 58_000),
    ("Lumen", "Table lamp, dimmable", 124_000),
];

/// Roles that know their callers by tokens, with a shop to look at.
struct Stage {
    shop: Shop,
    tokens: Vec<String>,
    products: Map<String, Value>,
    _roles: [Role; 3],
}

impl Stage {
    async fn open() -> Result<Self> {
        let mut shop = Shop::open().await?;
        let admin = token(&shop, &["--user", "1", "--scope", "admin"])?;
        let tokens = ["101", "102"]
            .iter()
            .map(|buyer| token(&shop, &["--user", buyer, "--scope", "buyer"]))
            .collect::<Result<_>>()?;
        let mut api = shop.spawn_with("api", &[("COMMERCE_AUTH_MODE", "token")])?;
        shop.ready(&mut api).await?;
        let roles = [api, shop.start("relay").await?, shop.start("streamer").await?];
        shop.calls_with(&admin);
        let mut products = Map::new();
        for (code, name, stock) in PRODUCTS {
            let body = json!({"code": code, "name": name, "brand": "온기", "price": 24_000, "stock": stock});
            let made = shop.succeed(reqwest::Method::POST, "/api-admin/v1/products", Some(body)).await?;
            products.insert(code.to_owned(), made["productId"].clone());
        }
        let more: Vec<Value> = MORE
            .iter()
            .zip(1..)
            .map(|((brand, name, price), number)| {
                json!({"code": format!("more-{number}"), "name": name, "brand": brand, "price": price, "stock": 5})
            })
            .collect();
        shop.succeed(reqwest::Method::POST, "/api-admin/v1/products/bulk", Some(json!({"products": more})))
            .await?;
        Ok(Self { shop, tokens, products, _roles: roles })
    }

    /// Runs a scenario to its end; what it tells is the error when it fails.
    async fn play(&self, scenario: &str, browser: &Path) -> Result<()> {
        let directory = tempfile::tempdir()?;
        let settings = json!({
            "url": self.shop.url(""),
            "browser": browser,
            "tokens": self.tokens,
            "products": self.products,
            "pictures": std::env::var_os("TEST_PICTURES").map_or(directory.path().to_owned(), Into::into),
        });
        // Files and not pipes, so that whatever the script prints cannot stop it.
        let told = directory.path().join("told");
        let output = File::create(&told)?;
        let mut node = Command::new("node")
            .args(["storefront.mjs", scenario])
            .current_dir(SCRIPTS)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("node cannot be run")?;
        // Tokens are no arguments: those can be read by everybody on the machine.
        let mut input = node.stdin.take().context("node has no input")?;
        input.write_all(settings.to_string().as_bytes())?;
        drop(input);
        let status = tokio::task::spawn_blocking(move || node.wait()).await??;
        let told = std::fs::read_to_string(told)?;
        ensure!(status.success(), "{scenario} in a browser: {told}");
        print!("{told}");
        Ok(())
    }
}

/// Has the binary issue a token.
fn token(shop: &Shop, arguments: &[&str]) -> Result<String> {
    let issued = shop.command("token").arg("issue").args(arguments).output()?;
    ensure!(issued.status.success(), "token issue: {}", String::from_utf8_lossy(&issued.stderr));
    Ok(String::from_utf8(issued.stdout)?.trim().to_owned())
}

/// Plays scenarios in a shop of their own, and counts everything anew afterwards.
async fn play(scenarios: &[&str]) -> Result<()> {
    let Some(browser) = std::env::var_os("TEST_BROWSER") else {
        eprintln!("SKIPPED: TEST_BROWSER names no Chromium; `cargo x test` looks for one");
        return Ok(());
    };
    let stage = Stage::open().await?;
    for scenario in scenarios {
        stage.play(scenario, Path::new(&browser)).await?;
    }
    stage.shop.verify()
}

#[tokio::test]
async fn what_one_buyer_does_the_other_sees_without_a_reload() -> Result<()> {
    play(&["likes", "last_item"]).await
}

#[tokio::test]
async fn a_live_stream_that_was_refused_is_asked_for_again() -> Result<()> {
    play(&["refused_stream"]).await
}

#[tokio::test]
async fn the_shop_works_without_a_script_and_a_form_sent_twice_is_one_order() -> Result<()> {
    play(&["without_script", "twice"]).await
}

#[tokio::test]
async fn everybody_can_use_the_shop_and_its_first_page_is_light() -> Result<()> {
    play(&["accessible", "light", "pictures"]).await
}
