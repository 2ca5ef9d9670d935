//! Watched products: what is pushed, to whom, and what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use product_cache::{CacheError, Card, Invalidation, LocalCache, Lookup, ProductCache};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::Executor;
use testkit::eventually;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::harness::{Answer, Choices, TestShop, api_settings, local_cache, read};

/// Reached only by what never comes. Shorter than the limit of a statement, so that nothing comes because that was reached.
const PATIENCE: Duration = Duration::from_secs(50);

/// An open stream, read event by event.
pub(crate) struct Events {
    response: Response,
    read: String,
}

impl Events {
    /// Watches the products of `ids`.
    pub(crate) async fn open(shop: &TestShop, ids: &[i64]) -> anyhow::Result<Self> {
        let response = request(shop, ids).send().await?;
        anyhow::ensure!(response.status() == StatusCode::OK, "{response:?}");
        Ok(Self { response, read: String::new() })
    }

    /// The next block of lines; `None` at the end.
    async fn block(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let block = block.to_owned();
                self.read = rest.to_owned();
                return Ok(Some(block));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.read.push_str(std::str::from_utf8(&chunk)?),
                None => return Ok(None),
            }
        }
    }

    /// The next state of a product; `None` at the end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        let next = async {
            while let Some(block) = self.block().await? {
                if let Some(data) = block.strip_prefix("event: product\ndata: ") {
                    return Ok(Some(serde_json::from_str(data)?));
                }
            }
            Ok(None)
        };
        tokio::time::timeout(PATIENCE, next).await.context("no event comes")?
    }

    /// Reads until a state is as said.
    pub(crate) async fn until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        while let Some(state) = self.next().await? {
            if is_wanted(&state) {
                return Ok(state);
            }
        }
        anyhow::bail!("the stream has ended")
    }
}

fn path(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("/api/v1/live?ids={}", ids.join(","))
}

fn request(shop: &TestShop, ids: &[i64]) -> reqwest::RequestBuilder {
    shop.request(Method::GET, &path(ids))
}

/// The answer that is not a stream.
async fn refusal(shop: &TestShop, ids: &[i64]) -> anyhow::Result<Answer> {
    let response = request(shop, ids).send().await?;
    anyhow::ensure!(response.status() != StatusCode::OK, "a stream does not end");
    read(response).await
}

/// A client that asks for the only place and takes nothing of what it is sent, which is more than its buffer holds.
async fn idle_client(shop: &TestShop, ids: &[i64]) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(1)?;
    let mut client = socket.connect(shop.address()?).await?;
    client.write_all(format!("GET {} HTTP/1.1\r\nhost: shop\r\n\r\n", path(ids)).as_bytes()).await?;
    eventually("the place is taken", async || {
        let status = request(shop, &ids[..1]).send().await?.status();
        Ok((status == StatusCode::SERVICE_UNAVAILABLE).then_some(()))
    })
    .await?;
    Ok(client)
}

/// A cache that counts its reads and can be away.
pub(crate) struct Watched {
    pub(crate) cache: LocalCache,
    pub(crate) is_away: AtomicBool,
    reads: AtomicUsize,
    /// Calls while it was away.
    unanswered: AtomicUsize,
}

impl Watched {
    pub(crate) fn new() -> anyhow::Result<Arc<Self>> {
        let (is_away, reads, unanswered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        Ok(Arc::new(Self { cache: local_cache()?, is_away, reads, unanswered }))
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    fn answer(&self) -> Result<&LocalCache, CacheError> {
        if self.is_away.load(Ordering::SeqCst) {
            self.unanswered.fetch_add(1, Ordering::SeqCst);
            return Err(CacheError::TimedOut);
        }
        Ok(&self.cache)
    }
}

#[async_trait]
impl ProductCache for Watched {
    async fn read(&self, ids: &[i64]) -> Result<Vec<Lookup>, CacheError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.answer()?.read(ids).await
    }

    async fn fill(&self, cards: &[Card]) -> Result<(), CacheError> {
        self.answer()?.fill(cards).await
    }

    async fn invalidate(&self, invalidations: &[Invalidation]) -> Result<(), CacheError> {
        self.answer()?.invalidate(invalidations).await
    }
}

fn state(product_id: i64, likes: i64, sold_out: bool) -> Value {
    json!({
        "productId": product_id, "likeCount": likes, "salesCount": 0, "viewCount": 0, "stale": false,
        "soldOut": sold_out,
    })
}

async fn set_likes(shop: &TestShop, product_id: i64, likes: i64) -> anyhow::Result<()> {
    sqlx::query(
        "insert into metrics.product_metrics (product_id, like_count) values ($1, $2)
         on conflict (product_id) do update set like_count = $2",
    )
    .bind(product_id)
    .bind(likes)
    .execute(&mut shop.connect_metrics().await?)
    .await?;
    Ok(())
}

#[tokio::test]
async fn the_state_of_each_comes_first_and_then_every_change() -> anyhow::Result<()> {
    let cache = Watched::new()?;
    let shop = TestShop::start_with(Choices { cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let products = shop.products(&[3, 0]).await?;
    set_likes(&shop, products[0], 4).await?;
    let mut events = Events::open(&shop, &[products[1], 404, products[0], products[1]]).await?;
    let headers = events.response.headers();
    assert_eq!(
        (&headers["content-type"], &headers["cache-control"]),
        (&"text/event-stream".parse()?, &"no-cache".parse()?)
    );
    assert!(events.block().await?.is_some_and(|block| block.starts_with("retry: 1")));
    assert_eq!(events.next().await?, Some(state(products[0], 4, false)));
    assert_eq!(events.next().await?, Some(state(products[1], 0, true)));

    set_likes(&shop, products[0], 5).await?;
    assert_eq!(events.next().await?, Some(state(products[0], 5, false)));
    // What the streamer does when it has applied a later event; the table still says available.
    cache.invalidate(&[Invalidation { product_id: products[0], version: 9, sold_out: true }]).await?;
    assert_eq!(events.next().await?, Some(state(products[0], 5, true)));
    cache.invalidate(&[Invalidation { product_id: products[0], version: 10, sold_out: false }]).await?;
    assert_eq!(events.next().await?, Some(state(products[0], 5, false)));
    assert!(shop.events().await?.is_empty(), "to watch is not to view");
    Ok(())
}

/// Lets the database count the queries that read counts: the table becomes a view that draws a number for each.
const COUNT_QUERIES: &str = "
    alter table metrics.product_metrics rename to counted;
    create sequence metrics.queries;
    create view metrics.product_metrics as
        with query as materialized (select nextval('metrics.queries'))
        select counted.* from metrics.counted, query";

#[tokio::test]
async fn a_thousand_watchers_cost_one_read_a_tick() -> anyhow::Result<()> {
    const WATCHERS: usize = 1_000;
    let cache = Watched::new()?;
    let mut api = api_settings();
    api.live_tick = Duration::from_millis(50);
    let shop = TestShop::start_with(Choices { api, cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let products = shop.products(&[1; 60]).await?;
    shop.count(products[30], 0, 0, 0).await?;
    shop.connect().await?.execute(COUNT_QUERIES).await?;
    let shop = &shop;
    let mut watchers: Vec<Events> = stream::iter(0..WATCHERS)
        // Each watches other ones, and one product that all of them watch.
        .map(|watcher| {
            let own = [products[watcher % 30], products[30], products[31 + watcher % 29]];
            async move { Events::open(shop, &own).await }
        })
        .buffer_unordered(50)
        .try_collect()
        .await?;
    for watcher in &mut watchers {
        watcher.until(|state| state["productId"] == json!(products[30])).await?;
    }

    let queries = async || shop.number("select last_value from metrics.queries").await;
    let (began, reads_before, queries_before) = (Instant::now(), cache.reads(), queries().await?);
    for likes in 1..=5 {
        shop.connect()
            .await?
            .execute(sqlx::AssertSqlSafe(format!("update metrics.counted set like_count = {likes}")))
            .await?;
        for watcher in &mut watchers {
            watcher.until(|state| state["likeCount"] == json!(likes)).await?;
        }
    }
    let reads = cache.reads() - reads_before;
    let queries = usize::try_from(queries().await? - queries_before)?;
    let ticks = usize::try_from(began.elapsed().as_millis() / 50)? + 2;
    assert!((5..=ticks).contains(&reads), "{reads} reads of the cache in {ticks} ticks");
    assert!((5..=ticks).contains(&queries), "{queries} queries in {ticks} ticks");

    drop(watchers);
    eventually("nobody reads for nobody", async || {
        let before = cache.reads();
        for _ in 0..50 {
            shop.like(7, products[0]).await?;
        }
        Ok((cache.reads() == before).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_watcher_who_goes_away_makes_room_at_once() -> anyhow::Result<()> {
    let mut api = api_settings();
    (api.live_watchers_max, api.live_ids_max, api.live_queue_max) = (1, 2, 2);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let products = shop.products(&[1, 1, 1]).await?;
    let too_many = refusal(&shop, &products).await?;
    assert_eq!((too_many.status, too_many.code()), (StatusCode::UNPROCESSABLE_ENTITY, "TOO_MANY_IDS"));
    let nothing = refusal(&shop, &[404, 405]).await?;
    assert_eq!((nothing.status, nothing.code()), (StatusCode::NOT_FOUND, "PRODUCT_NOT_FOUND"));

    let first = Events::open(&shop, &products[..2]).await?;
    let full = refusal(&shop, &products[..1]).await?;
    assert_eq!((full.status, full.code()), (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"));
    assert!(full.retry_after.is_some());
    drop(first);
    let mut second =
        eventually("there is room", async || Ok(Events::open(&shop, &products[..1]).await.ok())).await?;
    assert_eq!(second.next().await?, Some(state(products[0], 0, false)));
    Ok(())
}

#[tokio::test]
async fn a_stream_outlasts_the_time_limit_and_takes_no_request_its_place() -> anyhow::Result<()> {
    let mut api = api_settings();
    (api.concurrency_max, api.live_heartbeat) = (1, Duration::from_millis(50));
    (api.view_wait, api.view_commit_wait) = (Duration::from_millis(10), Duration::from_millis(10));
    api.request_timeout = Duration::from_millis(400);
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let product = shop.products(&[1]).await?[0];
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(Events::open(&shop, &[product]).await?);
    }
    assert_eq!(shop.show(product).await?.status, StatusCode::OK);
    let began = Instant::now();
    let mut events = streams.swap_remove(0);
    assert_eq!(events.next().await?, Some(state(product, 0, false)));
    while began.elapsed() < Duration::from_millis(800) {
        assert_eq!(events.block().await?.as_deref(), Some(":"), "a sign of life");
    }
    set_likes(&shop, product, 1).await?;
    assert_eq!(events.until(|state| state["likeCount"] == json!(1)).await?, state(product, 1, false));
    Ok(())
}

#[tokio::test]
async fn streams_end_with_the_process_and_do_not_hold_it_up() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let product = shop.products(&[1]).await?[0];
    let mut events = Events::open(&shop, &[product]).await?;
    assert_eq!(events.next().await?, Some(state(product, 0, false)));
    // Fails when the server has to be dropped at the drain deadline.
    shop.end().await?;
    assert_eq!(events.next().await?, None);
    Ok(())
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_and_does_not_hold_up_the_end() -> anyhow::Result<()> {
    let mut api = api_settings();
    (api.live_watchers_max, api.send_timeout) = (1, Duration::from_secs(2));
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    let products = shop.products(&[1; 100]).await?;
    let first = idle_client(&shop, &products).await?;
    let room = async || Ok(Events::open(&shop, &products).await.ok());
    drop(eventually("it has lost its place", room).await?);
    let second = idle_client(&shop, &products).await?;
    shop.end().await?;
    drop((first, second));
    Ok(())
}
