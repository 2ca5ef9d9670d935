//! How soon a product's page says "sold out" while the streamer works off a backlog of everything else, and how soon without one.
//!
//! A buyer orders the last unit over HTTP and asks for the page until it says so. The page's card is in the cache before, as that of
//! an available product, and would be for half an hour: nothing but the streamer's invalidation changes what is shown. The order's
//! commit lies between its sending and its answer, so the time is taken from both: from the answer it may be a little too short, from
//! the sending it is too long by what the order took. With some hundred samples a run, p99 is hardly more than the second worst of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use commerce_events::STOCK_EVENTS;
use hdrhistogram::Histogram;
use product_cache::{CacheSettings, ProductCache as _, RedisCache};
use serde_json::Value;
use sqlx::PgConnection;

use super::produce::{self, Kind};
use crate::api::{Connection, Request, Shop, order};
use crate::figures::Figures;
use crate::latency::{probe_pause, quantile};
use crate::pipeline::Role;

/// From one "sold out" to the next.
const PAUSE: Duration = Duration::from_millis(10);
/// Products of one unit each; no more are sold out, however long the backlog is.
const PRODUCTS: usize = 2_000;
/// So many of them are timed without a backlog.
const ALONE: usize = 300;
/// Fewer beside the backlog tell nothing.
const SAMPLES_MIN: u64 = 20;
/// Who buys.
const BUYER: i64 = 1;

pub(super) async fn once(events: u64, figures: &mut Figures) -> Result<()> {
    let shop = Shop::open_with(PRODUCTS, 1, &[]).await?;
    let backlog = produce::fill(shop.pipeline(), Kind::Clean, events).await?;
    let mut buyer = Buyer::enter(shop).await?;
    let products = buyer.shop.products.clone();
    let (for_beside, for_alone) = products.split_at(PRODUCTS - ALONE);
    let mut for_beside = for_beside.iter().copied();
    // The first one waits for shards and partitions.
    buyer.buy_last(for_beside.next().context("no product")?).await?;
    let (mut beside, mut alone) = (Times::new()?, Times::new()?);
    while buyer.handled().await? < backlog.events {
        match for_beside.next() {
            Some(product) => beside.record(&buyer.buy_last(product).await?)?,
            None => buyer.ensure_running()?,
        }
        tokio::time::sleep(PAUSE).await;
    }
    let samples = beside.shown.len();
    ensure!(samples >= SAMPLES_MIN, "{events} events are too few: {samples} were sold out beside them");
    for product in for_alone {
        alone.record(&buyer.buy_last(*product).await?)?;
        tokio::time::sleep(PAUSE).await;
    }
    figures.add("pipeline.sold_out_p50", "ms", quantile(&beside.shown, 0.5));
    figures.add("pipeline.sold_out_p99", "ms", quantile(&beside.shown, 0.99));
    figures.add("pipeline.sold_out_max", "ms", quantile(&beside.shown, 1.0));
    figures.add("pipeline.sold_out_samples", "orders", f64::from(u32::try_from(samples)?));
    figures.add("pipeline.sold_out_asked_p50", "ms", quantile(&beside.asked, 0.5));
    figures.add("pipeline.sold_out_asked_p99", "ms", quantile(&beside.asked, 0.99));
    figures.add("pipeline.sold_out_alone_p50", "ms", quantile(&alone.shown, 0.5));
    figures.add("pipeline.sold_out_alone_p99", "ms", quantile(&alone.shown, 0.99));
    let ratio = quantile(&beside.shown, 0.5) / quantile(&alone.shown, 0.5);
    figures.add("pipeline.sold_out_ratio", "of sold_out_alone_p50", ratio);
    buyer.leave().await
}

/// Microseconds until "sold out" was shown.
struct Times {
    /// From the order's answer.
    shown: Histogram<u64>,
    /// From the order's sending.
    asked: Histogram<u64>,
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Self { shown: Histogram::new(3)?, asked: Histogram::new(3)? })
    }

    fn record(&mut self, purchase: &Purchase) -> Result<()> {
        let Purchase { asked, answered, shown } = *purchase;
        self.shown.record(u64::try_from((shown - answered).as_micros())?)?;
        self.asked.record(u64::try_from((shown - asked).as_micros())?)?;
        Ok(())
    }
}

/// When a last unit was bought.
struct Purchase {
    asked: Instant,
    answered: Instant,
    /// The first page that said "sold out" had come whole.
    shown: Instant,
}

/// Buys the last units of one product after another.
struct Buyer {
    shop: Shop,
    roles: [Role; 2],
    connection: Connection,
    cache: RedisCache,
    database: PgConnection,
    /// Of the events that "sold out" is known by.
    stock_topic: String,
}

impl Buyer {
    /// Starts relay and streamer beside the shop's api.
    async fn enter(shop: Shop) -> Result<Self> {
        let pipeline = shop.pipeline();
        let settings = CacheSettings {
            key_prefix: pipeline.prefix().to_owned(),
            card_ttl: Duration::from_secs(60),
            tombstone_ttl: Duration::from_secs(600),
            timeout: Duration::from_secs(1),
            local_cards_max: 1,
        };
        let redis = std::env::var("COMMERCE_REDIS_URL").context("COMMERCE_REDIS_URL")?;
        Ok(Self {
            roles: [pipeline.start("relay")?, pipeline.start("streamer")?],
            connection: Connection::open(shop.address()).await?,
            cache: RedisCache::connect(&redis, settings)?,
            database: pipeline.connect().await?,
            stock_topic: pipeline.topic(STOCK_EVENTS),
            shop,
        })
    }

    /// Orders the last unit of a product that is shown as available, and asks for its page until it says "sold out".
    async fn buy_last(&mut self, product: i64) -> Result<Purchase> {
        let page = Request::new("GET", &format!("/api/v1/products/{product}"), BUYER);
        let order = order(BUYER, &[product]);
        ensure!(!self.is_sold_out(&page).await?, "product {product} is sold out before its order");
        self.ensure_cached(product).await?;
        let asked = Instant::now();
        self.connection.ask(&order).await?;
        let answered = Instant::now();
        while !self.is_sold_out(&page).await? {
            self.ensure_running()?;
            probe_pause().await?;
        }
        Ok(Purchase { asked, answered, shown: Instant::now() })
    }

    /// What the page says. Its view is recorded, as any buyer's.
    async fn is_sold_out(&mut self, page: &Request) -> Result<bool> {
        let answer: Value = serde_json::from_slice(self.connection.ask(page).await?)?;
        answer["data"]["soldOut"].as_bool().context("a page does not say whether its product is sold out")
    }

    /// Fails unless the cache has an available product's card, and knows of no other state.
    async fn ensure_cached(&self, product: i64) -> Result<()> {
        let lookup = self.cache.read(&[product]).await?.pop().unwrap_or_default();
        let is_available = lookup.card.as_ref().is_some_and(|card| !card.sold_out);
        ensure!(is_available && lookup.tombstone.is_none(), "product {product} is cached as {lookup:?}");
        Ok(())
    }

    /// Events but of stock that were counted. The buyer's own are behind the backlog in every partition: as long as these are fewer
    /// than the backlog has, some of it waits.
    async fn handled(&mut self) -> Result<u64> {
        let handled: i64 = sqlx::query_scalar(
            "select coalesce(sum(handled), 0)::bigint from inbox.progress where topic <> $1",
        )
        .bind(&self.stock_topic)
        .fetch_one(&mut self.database)
        .await?;
        Ok(u64::try_from(handled)?)
    }

    fn ensure_running(&mut self) -> Result<()> {
        self.roles.iter_mut().try_for_each(Role::ensure_running)
    }

    async fn leave(self) -> Result<()> {
        let Self { shop, roles, .. } = self;
        drop(roles);
        shop.close().await
    }
}
