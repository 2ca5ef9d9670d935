//! One isolated pipeline whose roles are processes of the binary under test.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::PgConnection;
use testkit::{TestDatabase, TestTopics, eventually, free_port};

/// The signal of `kill -9`.
pub(crate) const KILLED: i32 = 9;
/// A buyer, as the gateway in front would name him.
const BUYER: &str = "7";
/// The trace of every request.
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Database, topics and cache keys of one test.
pub(crate) struct Shop {
    pub(crate) database: TestDatabase,
    /// Where the counts are, when not there.
    counts: Option<TestDatabase>,
    pub(crate) topics: TestTopics,
    api_port: u16,
    /// With which requests are sent, once callers are known by tokens.
    token: Option<String>,
    http: reqwest::Client,
}

/// A role's process; killed when dropped.
pub(crate) struct Role {
    name: &'static str,
    child: Child,
    management_port: u16,
}

impl Shop {
    /// Migrated, nothing running.
    pub(crate) async fn open() -> Result<Self> {
        Self::open_over(None).await
    }

    /// The same, with the counts in a database of their own.
    pub(crate) async fn open_with_counts_apart() -> Result<Self> {
        Self::open_over(Some(TestDatabase::create(&[]).await?)).await
    }

    async fn open_over(counts: Option<TestDatabase>) -> Result<Self> {
        let shop = Self {
            database: TestDatabase::create(&[]).await?,
            counts,
            topics: TestTopics::new()?,
            api_port: free_port()?,
            token: None,
            http: reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?,
        };
        let migrated = shop.command("migrate").output()?;
        ensure!(migrated.status.success(), "migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        Ok(shop)
    }

    /// The binary with this shop's settings.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_commerce"));
        command
            .arg(subcommand)
            .env("COMMERCE_DATABASE_URL", self.database.url())
            .env("COMMERCE_KAFKA_TOPIC_PREFIX", self.topics.prefix())
            .env("COMMERCE_CACHE_KEY_PREFIX", self.topics.prefix())
            .env("COMMERCE_API_LISTEN", format!("127.0.0.1:{}", self.api_port))
            .env("COMMERCE_PROCESS_INSTANCE", format!("{}{subcommand}", self.topics.prefix()))
            .env("COMMERCE_LOG_FILTER", "warn")
            .stdin(Stdio::null());
        if let Some(counts) = &self.counts {
            command.env("COMMERCE_METRICS_DATABASE_URL", counts.url());
        }
        command
    }

    /// Starts a role without waiting, with further variables.
    pub(crate) fn spawn_with(&self, name: &'static str, variables: &[(&str, &str)]) -> Result<Role> {
        self.spawn_logging(name, variables, Stdio::inherit())
    }

    /// The same, with its log elsewhere than in ours.
    pub(crate) fn spawn_logging(
        &self,
        name: &'static str,
        variables: &[(&str, &str)],
        log: impl Into<Stdio>,
    ) -> Result<Role> {
        let management_port = free_port()?;
        let child = self
            .command(name)
            .env("COMMERCE_MANAGEMENT_LISTEN", format!("127.0.0.1:{management_port}"))
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Role { name, child, management_port })
    }

    /// Starts a role and waits until it is ready.
    pub(crate) async fn start(&self, name: &'static str) -> Result<Role> {
        let mut role = self.spawn_with(name, &[])?;
        self.ready(&mut role).await?;
        Ok(role)
    }

    /// Waits until a role is ready.
    pub(crate) async fn ready(&self, role: &mut Role) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/health/ready", role.management_port);
        let name = role.name;
        eventually(&format!("{name} is ready"), async || {
            if let Some(status) = role.child.try_wait()? {
                anyhow::bail!("{name} ended with {status}");
            }
            let answer = self.http.get(&url).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success()).then_some(()))
        })
        .await
    }

    /// Sum of a metric's values, as the role's management port tells them; `None` if it has none.
    pub(crate) async fn metric(&self, role: &Role, name: &str) -> Result<Option<f64>> {
        let url = format!("http://127.0.0.1:{}/metrics", role.management_port);
        let text = self.http.get(&url).send().await?.text().await?;
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let values: Vec<f64> =
            text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        Ok((!values.is_empty()).then(|| values.iter().sum()))
    }

    /// From now on requests show this token.
    pub(crate) fn calls_with(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    /// Where a path of the buyers' server is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api_port)
    }

    /// Sends a request as the buyer, or as an administrator on the admin paths; answers status and body.
    pub(crate) async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value)> {
        let request = self.http.request(method, self.url(path)).header("traceparent", TRACEPARENT);
        let mut request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request.header("X-USER-ID", BUYER).header("X-USER-ROLE", "admin"),
        };
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// As [`Self::send`], and insists on success.
    pub(crate) async fn succeed(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value> {
        let (status, answer) = self.send(method, path, body).await?;
        ensure!((200..300).contains(&status), "{path}: {status} {answer}");
        Ok(answer["data"].clone())
    }

    /// A new product; answers its id.
    pub(crate) async fn product(&self, code: &str, stock: u64) -> Result<i64> {
        let body = json!({"code": code, "name": code, "price": 1_000, "stock": stock});
        let made = self.succeed(reqwest::Method::POST, "/api-admin/v1/products", Some(body)).await?;
        made["productId"].as_i64().with_context(|| format!("no id in {made}"))
    }

    /// Orders `quantity` of a product; answers status and body.
    pub(crate) async fn order(&self, product: i64, quantity: u64) -> Result<(u16, Value)> {
        let body = json!({"items": [{"productId": product, "quantity": quantity}]});
        self.send(reqwest::Method::POST, "/api/v1/orders", Some(body)).await
    }

    /// What a buyer sees in the list, which records no view.
    pub(crate) async fn listed(&self, product: i64) -> Result<Value> {
        let page = self.succeed(reqwest::Method::GET, "/api/v1/products?size=100", None).await?;
        let items = page["items"].as_array().with_context(|| format!("no list in {page}"))?;
        let found = items.iter().find(|item| item["productId"].as_i64() == Some(product));
        found.cloned().with_context(|| format!("product {product} is not in {page}"))
    }

    /// Waits until the buyer sees these counts.
    pub(crate) async fn shows(&self, product: i64, likes: i64, sales: i64) -> Result<()> {
        let mut seen = Value::Null;
        let outcome = eventually("the counts are shown", async || {
            seen = self.listed(product).await?;
            Ok((seen["likeCount"] == likes && seen["salesCount"] == sales).then_some(()))
        })
        .await;
        outcome.with_context(|| format!("expected {likes} likes and {sales} sold, shown is {seen}"))
    }

    /// Recounts everything from its sources; fails on any difference.
    pub(crate) fn verify(&self) -> Result<()> {
        let verified = self.command("verify").args(["--wait", "60s"]).output()?;
        let text = [verified.stdout, verified.stderr].concat();
        ensure!(verified.status.success(), "verify: {}", String::from_utf8_lossy(&text));
        Ok(())
    }

    /// A connection to its database.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        self.database.connect().await
    }
}

impl Role {
    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        let name = self.name;
        eventually(&format!("{name} ends"), async || Ok(self.child.try_wait()?)).await
    }

    /// Asks it to stop, as a supervisor does.
    pub(crate) fn terminate(&self) -> Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(status.success(), "kill -TERM ended with {status}");
        Ok(())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
