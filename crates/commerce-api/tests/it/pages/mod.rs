//! The storefront, as a browser without a script sees it.

mod forms;
mod reading;
mod refusals;
mod safety;
mod sessions;

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::harness::{TestShop, send};

/// A page, read.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) html: String,
}

impl Page {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Where the browser is sent on to.
    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{self:?}");
        self.header(LOCATION.as_str())
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.html.contains(text)
    }

    /// The value of the first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.html.split_once(&format!("name=\"{name}\""))?;
        let (_, rest) = rest.split_once("value=\"")?;
        Some(rest.split_once('"')?.0)
    }
}

pub(crate) async fn open(request: RequestBuilder) -> anyhow::Result<Page> {
    let response = request.send().await?;
    Ok(Page { status: response.status(), headers: response.headers().clone(), html: response.text().await? })
}

/// The buyer of these tests, by the gateway's word.
const BUYER: i64 = 7;

/// A page as the buyer sees it.
async fn show(shop: &TestShop, path: &str) -> anyhow::Result<Page> {
    open(shop.browse(Method::GET, path).header("x-user-id", BUYER)).await
}

/// A form of ours, sent by the buyer.
fn form(shop: &TestShop, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
    let request = shop.browse(Method::POST, path).header("x-user-id", BUYER);
    request.header("sec-fetch-site", "same-origin").form(fields)
}

/// A product with this name and brand; its id.
async fn product(shop: &TestShop, name: &str, brand: &str, stock: i64) -> anyhow::Result<i64> {
    let code = testkit::unique("code");
    let body = json!({ "code": code, "name": name, "brand": brand, "price": 12_000, "stock": stock });
    let answer = send(shop.as_admin(Method::POST, "/api-admin/v1/products").json(&body)).await?;
    answer.data()["productId"].as_i64().ok_or_else(|| anyhow::anyhow!("{answer:?}"))
}

/// An order of the buyer; its id.
async fn order(shop: &TestShop, product: i64, quantity: i64) -> anyhow::Result<i64> {
    let answer = shop.order(BUYER, &[(product, quantity)]).await?;
    answer.data()["orderId"].as_i64().ok_or_else(|| anyhow::anyhow!("{answer:?}"))
}
