//! Schemathesis, which knows nothing of us but `openapi.json`, against the api: whatever it sends, no 5xx and no answer that the document
//! does not describe.
//!
//! It is a program in Python; `cargo x test` installs it and names it by a variable, without which nothing is tested here.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;

use crate::harness::Shop;

const DOCUMENT: &str = "/openapi.json";
/// The same requests in every run.
const SEED: &str = "20261129";
/// Requests that it makes up for each operation, besides those of the bounds it reads in the document.
const EXAMPLES: &str = "40";
/// Limits are settings and the document tells their highest values, so a value within those may be refused too; and a whole number
/// with a point (`3.0`), which JSON Schema lets pass for an integer, is none to us.
const NOT_CHECKED: &str = "positive_data_acceptance";

#[tokio::test]
async fn an_outsiders_tool_finds_no_answer_that_the_document_does_not_describe() -> Result<()> {
    let Some(schemathesis) = std::env::var_os("TEST_SCHEMATHESIS") else {
        eprintln!("SKIPPED: TEST_SCHEMATHESIS names no Schemathesis; `cargo x test` installs it");
        return Ok(());
    };
    let shop = Shop::open().await?;
    let mut api = shop.spawn_with("api", &[])?;
    shop.ready(&mut api).await?;
    let _streamer = shop.start("streamer").await?;
    // Something to find, to buy and to cancel.
    let product = shop.product("found", 1_000).await?;
    let (status, answer) = shop.order(product, 1).await?;
    ensure!(status == 201, "{status} {answer}");

    let (_, document) = shop.send(Method::GET, DOCUMENT, None).await?;
    let paths = document["paths"].as_object().context("no paths")?;
    // Schemathesis has read the document already, and asks for it no more.
    let asked = paths.iter().filter(|(path, _)| *path != DOCUMENT);
    let operations: usize = asked.filter_map(|(_, path)| Some(path.as_object()?.len())).sum();

    let mut command = Command::new(schemathesis);
    command.args(["run", &shop.url(DOCUMENT), "--seed", SEED, "--max-examples", EXAMPLES]);
    command.args(["--checks", "all", "--exclude-checks", NOT_CHECKED, "--no-color"]);
    command.args(["--header", "X-USER-ID: 7", "--header", "X-USER-ROLE: admin"]);
    let directory = tempfile::tempdir()?;
    let ran = command.current_dir(&directory).output().context("schemathesis cannot be run")?;
    let told = String::from_utf8_lossy(&ran.stdout);
    ensure!(ran.status.success(), "{told}\n{}", String::from_utf8_lossy(&ran.stderr));
    ensure!(told.contains(&format!("Tested: {operations}")), "{operations} operations, {told}");
    shop.ready(&mut api).await
}
