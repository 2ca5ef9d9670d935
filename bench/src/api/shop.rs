//! A shop with products, served by a process of its own.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::Client;
use serde_json::{Value, json};

use super::wire::{Connection, Request};
use crate::pipeline::{Pipeline, Role};

/// Units of each product, unless a part sells it out.
const STOCK: i64 = 1_000_000_000;
/// Products of one request.
const BULK: usize = 1_000;
/// Cards outlive every part, so that all pages are those of cached products.
const LONG_LIVED: [(&str, &str); 2] =
    [("COMMERCE_CACHE_CARD_TTL", "1h"), ("COMMERCE_CACHE_TOMBSTONE_TTL", "2h")];

/// Few callers ask as often as they can.
const UNLIMITED: [(&str, &str); 1] = [("COMMERCE_API_RATE_CALLER_PER_MINUTE", "0")];

/// The shop.
pub(crate) struct Shop {
    pipeline: Pipeline,
    pub(super) role: Role,
    address: String,
    pub(crate) products: Vec<i64>,
}

impl Shop {
    /// Starts the api under these settings and creates products that no part sells out.
    pub(super) async fn open(products: usize, settings: &[(&str, &str)]) -> Result<Self> {
        Self::open_with(products, STOCK, settings).await
    }

    /// The same with so many units of each product.
    pub(crate) async fn open_with(products: usize, stock: i64, settings: &[(&str, &str)]) -> Result<Self> {
        let pipeline = Pipeline::create().await?;
        let address = free_address()?;
        let mut settings = [settings, &LONG_LIVED, &UNLIMITED].concat();
        settings.push(("COMMERCE_API_LISTEN", &address));
        let role = pipeline.start_with("api", &settings)?;
        let client = Client::new();
        let mut shop = Self { pipeline, role, address, products: Vec::new() };
        while client.get(shop.url("/api/v1/products")).send().await.is_err() {
            shop.role.ensure_running()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for first in (0..products).step_by(BULK) {
            let count = BULK.min(products - first);
            shop.create(&client, first, count, stock).await?;
        }
        // So that every page's card is cached.
        let mut connection = Connection::open(&shop.address).await?;
        for product in &shop.products {
            connection.ask(&Request::new("GET", &format!("/api/v1/products/{product}"), 1)).await?;
        }
        Ok(shop)
    }

    async fn create(&mut self, client: &Client, first: usize, count: usize, stock: i64) -> Result<()> {
        let product = |number: usize| json!({ "code": format!("b{number}"), "name": format!("product {number}"), "price": 1_000, "stock": stock });
        let products: Vec<Value> = (first..first + count).map(product).collect();
        let request = client.post(self.url("/api-admin/v1/products/bulk"));
        let request = request.header("x-user-id", "1").header("x-user-role", "admin");
        let answer = request.json(&json!({ "products": products })).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        let answer: Value = answer.json().await?;
        let ids: Vec<i64> = serde_json::from_value(answer["data"]["productIds"].clone())?;
        self.products.extend(ids);
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where everything of it lives.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// `host:port` of the api.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What stands in front of its topics and of its keys in the cache.
    pub(super) fn prefix(&self) -> &str {
        self.pipeline.prefix()
    }

    pub(super) fn database_url(&self) -> String {
        self.pipeline.database_url()
    }

    /// Views that are recorded until now.
    pub(super) async fn views(&self) -> Result<i64> {
        let count =
            sqlx::query_scalar("select count(*) from outbox.event where event_type = 'ProductViewed'");
        Ok(count.fetch_one(&mut self.pipeline.connect().await?).await?)
    }

    /// Ends the process and removes what it left behind.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.role.ensure_running()?;
        drop(self.role);
        self.pipeline.remove().await
    }
}

/// An address that was free a moment ago; nobody else on the machine asks for ports meanwhile.
pub(super) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
