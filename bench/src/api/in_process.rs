//! Group commit alone: the api's commands in this process, without HTTP. The database is the real one.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use commerce_api::{
    Api, ApiParts, ApiSettings, AuthSettings, Commands, EventLog, RankingSettings, SessionSettings,
};
use outbox::AppendLimits;
use product_cache::{CacheSettings, LocalCache};
use runtime::database::{DatabaseSettings, pool};
use runtime::{Lifecycle, SystemClock};
use serde::Deserialize;

use super::Arguments;
use super::clients::{Asker, at_once};
use super::shop::Shop;
use crate::figures::Figures;

/// The defaults of the release binary.
const DEFAULTS: &str = include_str!("../../../config/default.toml");

/// What the api needs of the settings.
#[derive(Deserialize)]
struct Defaults {
    api: ApiSettings,
    auth: AuthSettings,
    session: SessionSettings,
    rankings: RankingSettings,
    cache: CacheSettings,
    database: DatabaseSettings,
    outbox: OutboxDefaults,
}

#[derive(Deserialize)]
struct OutboxDefaults {
    record_bytes_max: usize,
}

/// Adds the rates of orders, likes and views.
pub(super) async fn measure(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let shop = Shop::open(arguments.products, &[]).await?;
    let mut lifecycle = Lifecycle::new();
    let commands = start(&shop, &mut lifecycle).await?;
    let products = &shop.products;
    let failed = |error| anyhow!("refused: {error}");
    let orders = async |seed, deadline| {
        let (mut asker, mut count) = (Asker::new(products, seed), 0);
        while Instant::now() < deadline {
            let lines: Vec<(i64, i64)> = asker.lines()?.into_iter().map(|product| (product, 1)).collect();
            commands.place_order(asker.user(), &lines).await.map_err(failed)?;
            count += 1;
        }
        Ok(count)
    };
    let likes = async |seed, deadline| {
        let (mut asker, mut count) = (Asker::new(products, seed), 0);
        while Instant::now() < deadline {
            let (user, product, is_liked) = asker.like()?;
            commands.change_like(user, product, is_liked).await.map_err(failed)?;
            count += 1;
        }
        Ok(count)
    };
    let views = async |seed, deadline| {
        let (mut asker, mut count) = (Asker::new(products, seed), 0);
        while Instant::now() < deadline {
            // One that the writer did not take in time is none.
            count += u32::from(commands.record_view(asker.user(), asker.product()?).await);
        }
        Ok(count)
    };
    let (clients, seconds) = (arguments.clients, arguments.seconds);
    figures.add("api.group_orders", "orders/s", at_once(clients, seconds, orders).await?);
    figures.add("api.group_likes", "likes/s", at_once(clients, seconds, likes).await?);
    figures.add("api.group_views", "views/s", at_once(clients, seconds, views).await?);
    // Nothing waits any more, so the api's tasks may be dropped.
    drop(lifecycle);
    shop.close().await
}

/// An api in this process, over the shop's database.
async fn start(shop: &Shop, lifecycle: &mut Lifecycle) -> Result<Commands> {
    let Defaults { mut api, auth, session, rankings, cache, mut database, outbox } =
        toml::from_str(DEFAULTS).context("config/default.toml")?;
    api.listen = "127.0.0.1:0".parse()?;
    database.url = shop.database_url();
    let pool = pool(&database, "bench")?;
    let limits = AppendLimits { record_bytes_max: outbox.record_bytes_max };
    let parts = ApiParts {
        metrics_pool: pool.clone(),
        pool,
        cache: Arc::new(LocalCache::new(cache)?),
        log: EventLog::new(shop.prefix().to_owned(), limits, None),
        clock: Arc::new(SystemClock),
    };
    let listener = commerce_api::bind(&api).await?;
    let api = Api::new(api, auth, session, rankings, parts)?;
    let commands = api.commands();
    api.start(listener, lifecycle);
    Ok(commands)
}
