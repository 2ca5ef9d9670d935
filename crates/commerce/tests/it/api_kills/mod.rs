//! `kill -9` of the api under load, and one SIGTERM: what was acknowledged is there once, what was refused is not.
//!
//! Clients ask over HTTP and keep a ledger of what they were told. A command whose answer was lost is sent again, an order with the
//! same `Idempotency-Key`, to the process that comes next. In the end the ledger is compared with the tables, one command after
//! the other. `API_KILL_COMMANDS` and `API_KILLS` choose another length (docs/PROOF.md).

mod books;
mod clients;
mod judge;
mod ledger;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use sqlx::{Connection, Executor};
use tokio::sync::watch;

use crate::harness::{Role, Shop};
use books::Books;
use clients::{Catalogue, Client, Life};
use judge::judge;
use ledger::Ledger;

/// Clients that ask at the same time.
const CLIENTS: u64 = 16;
/// Products of which there is enough.
const PLENTY: usize = 40;
/// Products that are sold out on the way.
const SCARCE: usize = 10;
/// Longer than the api's own limit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A run's length.
#[derive(Clone, Copy)]
struct Length {
    /// Commands to be acknowledged.
    commands: u64,
    kills: u64,
}

impl Length {
    /// As the environment says, or the length that is promised.
    fn chosen() -> Result<Self> {
        let number = |name: &str, otherwise| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}: {text}")),
            Err(_) => Ok(otherwise),
        };
        Ok(Self { commands: number("API_KILL_COMMANDS", 100_000)?, kills: number("API_KILLS", 5)? })
    }
}

/// What came of a run.
struct Outcome {
    ledger: Ledger,
    /// Units of each product in the beginning.
    stock: BTreeMap<i64, i64>,
    api: Role,
}

async fn stock(shop: &Shop, commands: u64) -> Result<(Catalogue, BTreeMap<i64, i64>)> {
    let mut stock = BTreeMap::new();
    for number in 0..PLENTY + SCARCE {
        // A tenth of what is asked for.
        let units = if number < PLENTY { 1_000 * commands } else { 1 + commands / 1_000 };
        stock.insert(shop.product(&format!("p{number}"), units).await?, i64::try_from(units)?);
    }
    let products: Vec<i64> = stock.keys().copied().collect();
    let (plenty, scarce) = products.split_at(PLENTY);
    Ok((Catalogue { plenty: plenty.to_vec(), scarce: scarce.to_vec() }, stock))
}

/// A process that is ready now.
async fn life(shop: &Shop, number: u64) -> Result<Life> {
    let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build()?;
    let last_order = sqlx::query_scalar("select coalesce(max(id), 0) from shop.orders")
        .fetch_one(&mut shop.connect().await?)
        .await?;
    Ok(Life { number, http, last_order })
}

/// An api without a limit of how often its few callers may ask.
async fn start(shop: &Shop) -> Result<Role> {
    let mut api = shop.spawn_with("api", &[("COMMERCE_API_RATE_CALLER_PER_MINUTE", "0")])?;
    shop.ready(&mut api).await?;
    Ok(api)
}

/// Lets the clients ask, kills the api so many times meanwhile, and ends it once by SIGTERM in between.
async fn run(shop: &Shop, length: Length) -> Result<Outcome> {
    let mut api = start(shop).await?;
    let (catalogue, stock) = stock(shop, length.commands).await?;
    let (lives, _) = watch::channel(None);
    lives.send_replace(Some(life(shop, 0).await?));
    let (progress, mut done) = watch::channel(0);
    let killed = async {
        for end in 1..=length.kills + 1 {
            let due = length.commands * end / (length.kills + 2);
            done.wait_for(|done| *done >= due).await?;
            lives.send_replace(None);
            if end == length.kills / 2 + 1 {
                // One ends well, and answers whatever it has taken.
                api.terminate()?;
                let status = api.ended().await?;
                ensure!(status.success(), "after SIGTERM: {status}");
            }
            drop(api);
            api = start(shop).await?;
            lives.send_replace(Some(life(shop, end).await?));
        }
        anyhow::Ok(api)
    };
    let clients = try_join_all((1..=CLIENTS).map(async |number| {
        let user = i64::try_from(number)?;
        let client = Client::new(shop, user, &catalogue, lives.subscribe(), &progress);
        client.ask(length.commands.div_ceil(CLIENTS)).await
    }));
    let (api, ledgers) = Box::pin(async { tokio::try_join!(killed, clients) }).await?;
    let mut ledger = Ledger::default();
    ledgers.into_iter().for_each(|other| ledger.merge(other));
    Ok(Outcome { ledger, stock, api })
}

#[tokio::test]
async fn an_api_that_is_killed_loses_nothing_and_doubles_nothing() -> Result<()> {
    let length = Length::chosen()?;
    let shop = Shop::open().await?;
    let begun = Instant::now();
    let Outcome { ledger, stock, api } = Box::pin(run(&shop, length)).await?;
    let took = begun.elapsed();
    let books = Books::read(&mut shop.connect().await?).await?;
    let violations = judge(&ledger, &stock, &books);
    eprintln!("{ledger}{:<36}{:>10}", "seconds", took.as_secs());
    ensure!(violations.is_empty(), "{}", violations.join("\n"));
    ensure!(ledger.acknowledged >= length.commands, "{} were acknowledged", ledger.acknowledged);
    ensure!(ledger.interrupted >= length.kills, "{} lost their answer", ledger.interrupted);
    // What the events are counted as is right, too.
    let _relay = shop.start("relay").await?;
    let _streamer = shop.start("streamer").await?;
    shop.verify()?;
    drop(api);
    Ok(())
}

/// What a wrong api would leave behind: a change, and what the judge must say of it.
const FAULTS: [(&str, &str); 10] = [
    (
        "with lost as (select order_id from shop.idempotent_response order by 1 limit 1),
              gone as (delete from shop.order_line where order_id in (table lost)),
              answer as (delete from shop.idempotent_response where order_id in (table lost))
         delete from shop.orders where id in (table lost)",
        "is lost",
    ),
    (
        "with twin as (insert into shop.orders (user_id, total_amount)
                       select user_id, total_amount from shop.orders order by id limit 1 returning id)
         insert into shop.order_line
         select twin.id, line, product_id, quantity, unit_price
           from twin, shop.order_line where order_id = (select min(id) from shop.orders)",
        "nobody was told of order",
    ),
    (
        "update shop.order_line set quantity = quantity + 1
          where (order_id, line) = (select order_id, line from shop.order_line order by 1, 2 limit 1)",
        "has other lines",
    ),
    (
        "delete from outbox.event where id = (select min(id) from outbox.event where event_type = 'OrderCompleted')",
        "has 0 events",
    ),
    (
        "insert into outbox.event (shard, event_id, system_identifier, timeline, event_type, aggregate_type, aggregate_id, topic,
                                   partition_key, payload, occurred_at)
         select shard, gen_random_uuid(), system_identifier, timeline, event_type, aggregate_type, aggregate_id, topic,
                partition_key, payload, occurred_at
           from outbox.event where id = (select min(id) from outbox.event where event_type = 'OrderCompleted')",
        "has 2 events",
    ),
    ("update shop.stock set quantity = quantity + 1 where product_id = 1", "units are left of product 1"),
    (
        "insert into shop.product_like (user_id, product_id) select 999, 1",
        "nobody was told of the like of 999",
    ),
    (
        "delete from outbox.event where id = (select min(id) from outbox.event where event_type = 'ProductUnliked')",
        "events of taking it back",
    ),
    (
        "delete from outbox.event where id = (select min(id) from outbox.event where event_type = 'ProductViewed')",
        "view has 0 events",
    ),
    ("delete from outbox.event where event_type = 'StockDepleted'", "times sold out"),
];

#[tokio::test]
async fn a_shop_that_loses_or_doubles_a_command_is_caught() -> Result<()> {
    let shop = Shop::open().await?;
    let Outcome { mut ledger, stock, api } = Box::pin(run(&shop, Length { commands: 600, kills: 0 })).await?;
    drop(api);
    let mut connection = shop.connect().await?;
    let books = Books::read(&mut connection).await?;
    ensure!(judge(&ledger, &stock, &books).is_empty(), "nothing was planted yet");
    for (change, said) in FAULTS {
        let mut transaction = connection.begin().await?;
        let planted = transaction.execute(change).await?.rows_affected();
        ensure!(planted > 0, "not planted: {change}");
        let violations = judge(&ledger, &stock, &Books::read(&mut transaction).await?);
        transaction.rollback().await?;
        ensure!(violations.iter().any(|found| found.contains(said)), "{change}: {violations:?}");
    }
    // The other way round: an order, a page and a like that are there, of which it was said that they never will be.
    ledger.refuse_one_of_each();
    let violations = judge(&ledger, &stock, &books);
    for said in ["was refused and is order", "view has 1 events", "nobody was told of the like"] {
        ensure!(violations.iter().any(|found| found.contains(said)), "{said}: {violations:?}");
    }
    Ok(())
}
