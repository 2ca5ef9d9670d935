//! A running api on a database of its own.

use std::net::SocketAddr;
use std::time::Duration;

use commerce_api::tokens::{self, NewToken, Scope};
use commerce_api::{Api, ApiParts, EventLog};
use reqwest::{Method, Response, StatusCode};
use runtime::Lifecycle;
use runtime::database::{DatabaseSettings, Pool, pool};
use runtime::lifecycle::LifecycleError;
use serde_json::{Value, json};
use sqlx::PgConnection;
use testkit::TestDatabase;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::choices::{
    Choices, api_settings, auth_settings, local_cache, ranking_settings, session_settings,
};

/// A stored event.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredEvent {
    pub(crate) event_type: String,
    pub(crate) topic: String,
    pub(crate) partition_key: String,
    pub(crate) aggregate_version: Option<i64>,
    #[sqlx(json)]
    pub(crate) payload: Value,
    pub(crate) traceparent: Option<String>,
    /// The low half of the transaction's id, as row versions hold it.
    pub(crate) txid: i64,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) view_recorded: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// The products of a list in its order.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let items = self.data()["items"].as_array();
        items.into_iter().flatten().filter_map(|item| item["productId"].as_i64()).collect()
    }

    pub(crate) fn code(&self) -> &str {
        self.body["meta"]["errorCode"].as_str().unwrap_or_default()
    }
}

/// A running api with its database and a client.
pub(crate) struct TestShop {
    pub(crate) database: TestDatabase,
    apart: Option<TestDatabase>,
    pub(crate) pool: Pool,
    pub(crate) log: EventLog,
    base: String,
    client: reqwest::Client,
    /// Follows no redirect, so that tests see them.
    browser: reqwest::Client,
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), LifecycleError>>,
}

impl Drop for TestShop {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl TestShop {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(Choices::ordinary()?).await
    }

    pub(crate) async fn start_with(choices: Choices) -> anyhow::Result<Self> {
        let database = TestDatabase::create(&[outbox::migrations(), commerce_api::migrations()]).await?;
        let apart = if choices.metrics_apart { Some(TestDatabase::create(&[]).await?) } else { None };
        let metrics_database = apart.as_ref().unwrap_or(&database);
        create_metrics(metrics_database).await?;
        let connections_max = choices.connections_max;
        let (pool, metrics_pool) = match &apart {
            Some(apart) => (open_pool(&database, connections_max)?, open_pool(apart, connections_max)?),
            None => {
                let pool = open_pool(&database, connections_max)?;
                (pool.clone(), pool)
            }
        };
        let log = EventLog::new("t-".to_owned(), choices.limits, None);
        let parts = ApiParts {
            pool: pool.clone(),
            metrics_pool,
            cache: choices.cache,
            log: log.clone(),
            clock: choices.clock,
        };
        let listener = commerce_api::bind(&choices.api).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let mut lifecycle = Lifecycle::new();
        let shutdown = lifecycle.shutdown();
        Api::new(choices.api, choices.auth, choices.session, choices.rankings, parts)?
            .start(listener, &mut lifecycle);
        let ended = tokio::spawn(lifecycle.run(Duration::from_secs(30)));
        let client = reqwest::Client::new();
        let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { database, apart, pool, log, base, client, browser, shutdown, ended })
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        self.database.connect().await
    }

    /// Asks the api to end and waits until it has.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok((&mut self.ended).await??)
    }

    /// The database of the counts, when it is one of its own.
    pub(crate) fn metrics_database(&self) -> &TestDatabase {
        self.apart.as_ref().unwrap_or(&self.database)
    }

    /// The database of the counts.
    pub(crate) async fn connect_metrics(&self) -> anyhow::Result<PgConnection> {
        self.metrics_database().connect().await
    }

    /// Says what is counted of a product.
    pub(crate) async fn count(
        &self,
        product_id: i64,
        likes: i64,
        sales: i64,
        views: i64,
    ) -> anyhow::Result<()> {
        sqlx::query(
            "insert into metrics.product_metrics (product_id, like_count, sales_count, view_count)
             values ($1, $2, $3, $4)",
        )
        .bind(product_id)
        .bind(likes)
        .bind(sales)
        .bind(views)
        .execute(&mut self.connect_metrics().await?)
        .await?;
        Ok(())
    }

    /// Where the api listens.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.base.trim_start_matches("http://").parse()?)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// As a browser asks for a page.
    pub(crate) fn browse(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.browser.request(method, format!("{}{path}", self.base));
        request.header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
    }

    pub(crate) fn as_user(&self, method: Method, path: &str, user_id: i64) -> reqwest::RequestBuilder {
        self.request(method, path).header("x-user-id", user_id)
    }

    pub(crate) fn as_admin(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.as_user(method, path, 1).header("x-user-role", "admin")
    }

    /// A token, for an hour.
    pub(crate) async fn issue(&self, user_id: i64, scopes: &[Scope]) -> anyhow::Result<String> {
        let lifetime = Duration::from_secs(3_600);
        let new = NewToken { user_id, scopes: scopes.to_vec(), label: None, lifetime };
        let issued = tokens::issue(&mut self.connect().await?, &new, lifetime).await?;
        Ok(issued.text.reveal().to_owned())
    }

    pub(crate) fn with_token(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.request(method, path).bearer_auth(token)
    }

    pub(crate) async fn show(&self, product_id: i64) -> anyhow::Result<Answer> {
        send(self.request(Method::GET, &format!("/api/v1/products/{product_id}"))).await
    }

    /// The list of this query.
    pub(crate) async fn list(&self, query: &str) -> anyhow::Result<Answer> {
        send(self.request(Method::GET, &format!("/api/v1/products?{query}"))).await
    }

    /// The merchant changes a product.
    pub(crate) fn change(
        &self,
        product_id: i64,
        change: &Value,
    ) -> impl Future<Output = anyhow::Result<Answer>> + use<> {
        send(self.as_admin(Method::PATCH, &format!("/api-admin/v1/products/{product_id}")).json(change))
    }

    pub(crate) async fn like(&self, user_id: i64, product_id: i64) -> anyhow::Result<Answer> {
        send(self.as_user(Method::POST, &format!("/api/v1/like/products/{product_id}"), user_id)).await
    }

    pub(crate) async fn unlike(&self, user_id: i64, product_id: i64) -> anyhow::Result<Answer> {
        send(self.as_user(Method::DELETE, &format!("/api/v1/like/products/{product_id}"), user_id)).await
    }

    pub(crate) fn order_request(&self, user_id: i64, items: &[(i64, i64)]) -> reqwest::RequestBuilder {
        self.as_user(Method::POST, "/api/v1/orders", user_id).json(&order_body(items))
    }

    pub(crate) fn order(
        &self,
        user_id: i64,
        items: &[(i64, i64)],
    ) -> impl Future<Output = anyhow::Result<Answer>> + use<> {
        send(self.order_request(user_id, items))
    }

    pub(crate) async fn cancel(&self, user_id: i64, order_id: i64) -> anyhow::Result<Answer> {
        send(self.as_user(Method::POST, &format!("/api/v1/orders/{order_id}/cancel"), user_id)).await
    }

    pub(crate) async fn set_stock(&self, product_id: i64, quantity: i64) -> anyhow::Result<Answer> {
        let request = self.as_admin(Method::PUT, &format!("/api-admin/v1/products/{product_id}/stock"));
        send(request.json(&json!({ "quantity": quantity }))).await
    }

    /// Products with these stocks, at a price of 100 each; their ids.
    pub(crate) async fn products(&self, stocks: &[i64]) -> anyhow::Result<Vec<i64>> {
        let products: Vec<Value> = stocks
            .iter()
            .map(|stock| {
                let code = testkit::unique("code");
                json!({ "code": code, "name": "컵", "price": 100, "stock": stock })
            })
            .collect();
        let request = self.as_admin(Method::POST, "/api-admin/v1/products/bulk");
        let answer = send(request.json(&json!({ "products": products }))).await?;
        anyhow::ensure!(answer.status == StatusCode::CREATED, "{answer:?}");
        Ok(serde_json::from_value(answer.data()["productIds"].clone())?)
    }

    /// Every event in the order of its id.
    pub(crate) async fn events(&self) -> anyhow::Result<Vec<StoredEvent>> {
        let events = sqlx::query_as(
            "select event_type, topic, partition_key, aggregate_version, convert_from(payload, 'UTF8')::jsonb as payload,
                    traceparent, (txid::text::numeric % 4294967296)::bigint as txid
               from outbox.event order by id",
        )
        .fetch_all(&mut self.connect().await?)
        .await?;
        Ok(events)
    }

    /// The types of every event in the order of its id.
    pub(crate) async fn event_types(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.events().await?.into_iter().map(|event| event.event_type).collect())
    }

    /// Quantity and version.
    pub(crate) async fn stock(&self, product_id: i64) -> anyhow::Result<(i64, i64)> {
        let stock = sqlx::query_as("select quantity, version from shop.stock where product_id = $1")
            .bind(product_id)
            .fetch_one(&mut self.connect().await?)
            .await?;
        Ok(stock)
    }

    /// Holds `table` against every writer until the returned connection commits.
    pub(crate) async fn hold(&self, table: &str) -> anyhow::Result<PgConnection> {
        let mut blocker = self.connect().await?;
        // A limit, so that a transaction that was left open fails the test instead of hanging it.
        let sql = format!("begin; set local lock_timeout = '60s'; lock table {table} in exclusive mode");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut blocker).await?;
        Ok(blocker)
    }

    /// Waits until somebody waits for a lock in the database, a writer for what [`Self::hold`] holds.
    pub(crate) async fn writer_waits(&self) -> anyhow::Result<()> {
        self.database.somebody_waits("the writer waits for a lock").await
    }

    /// One number of the database.
    pub(crate) async fn number(&self, sql: &'static str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&mut self.connect().await?).await?)
    }
}

async fn create_metrics(database: &TestDatabase) -> anyhow::Result<()> {
    let mut connection = database.connect().await?;
    sqlx::raw_sql("create schema metrics").execute(&mut connection).await?;
    for migration in [
        include_str!("../../../commerce-streamer/migrations/0001_metrics.sql"),
        include_str!("../../../commerce-streamer/migrations/0002_hourly_by_hour.sql"),
        include_str!("../../../commerce-streamer/migrations/0004_hourly_addition.sql"),
    ] {
        sqlx::raw_sql(migration).execute(&mut connection).await?;
    }
    Ok(())
}

fn open_pool(database: &TestDatabase, connections_max: usize) -> anyhow::Result<Pool> {
    let settings = DatabaseSettings {
        url: database.url().to_owned(),
        connections_max,
        acquire_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(60),
    };
    Ok(pool(&settings, "test-api")?)
}

pub(crate) fn order_body(items: &[(i64, i64)]) -> Value {
    let items: Vec<Value> = items
        .iter()
        .map(|(product_id, quantity)| json!({ "productId": product_id, "quantity": quantity }))
        .collect();
    json!({ "items": items })
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
    read(request.send().await?).await
}

/// Reads an answer.
pub(crate) async fn read(response: Response) -> anyhow::Result<Answer> {
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Answer {
        status: response.status(),
        view_recorded: header("view-recorded"),
        retry_after: header("retry-after"),
        body: response.json().await?,
    })
}
