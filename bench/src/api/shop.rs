//! A shop with products, served by a process of its own.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::pipeline::{Pipeline, Role};

/// Units of each product: no part sells one out.
const STOCK: i64 = 1_000_000_000;
/// Products of one request.
const BULK: usize = 1_000;

/// The shop.
pub(super) struct Shop {
    pipeline: Pipeline,
    role: Role,
    pub(super) client: Client,
    address: String,
    pub(super) products: Vec<i64>,
}

impl Shop {
    /// Starts the api under these settings and creates the products.
    pub(super) async fn open(products: usize, settings: &[(&str, &str)]) -> Result<Self> {
        let pipeline = Pipeline::create().await?;
        // Free a moment ago; nobody else on the machine asks for ports meanwhile.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut settings = settings.to_vec();
        settings.push(("COMMERCE_API_LISTEN", &address));
        let role = pipeline.start_with("api", &settings)?;
        let client = Client::builder().pool_max_idle_per_host(usize::MAX).build()?;
        let mut shop = Self { pipeline, role, client, address, products: Vec::new() };
        shop.is_up().await?;
        for first in (0..products).step_by(BULK) {
            let count = BULK.min(products - first);
            shop.create(first, count).await?;
        }
        // So that every page's card is cached.
        for product in shop.products.clone() {
            let page = shop.get(&format!("/api/v1/products/{product}")).send().await?;
            ensure!(page.status().is_success(), "{}", page.text().await?);
        }
        Ok(shop)
    }

    async fn is_up(&mut self) -> Result<()> {
        while self.get("/api/v1/products").send().await.is_err() {
            self.role.ensure_running()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn create(&mut self, first: usize, count: usize) -> Result<()> {
        let product = |number: usize| json!({ "code": format!("b{number}"), "name": format!("product {number}"), "price": 1_000, "stock": STOCK });
        let products: Vec<Value> = (first..first + count).map(product).collect();
        let request = self.client.post(self.url("/api-admin/v1/products/bulk"));
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

    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(super) fn post(&self, path: &str, user: i64) -> RequestBuilder {
        self.client.post(self.url(path)).header("x-user-id", user.to_string())
    }

    pub(super) fn delete(&self, path: &str, user: i64) -> RequestBuilder {
        self.client.delete(self.url(path)).header("x-user-id", user.to_string())
    }

    /// Ends the process and removes what it left behind.
    pub(super) async fn close(mut self) -> Result<()> {
        self.role.ensure_running()?;
        drop(self.role);
        self.pipeline.remove().await
    }
}
