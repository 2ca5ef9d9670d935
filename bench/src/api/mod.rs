//! `api`: what buyers wait for, measured over HTTP on the release binary's `api` role.
//!
//! The parts that count are closed loops: so many clients, each asking again as soon as it is answered. Both sides of a ratio
//! run in turn on databases of their own. The part `latency` is an open loop: requests begin when they are due, whether or not
//! earlier ones are answered, and a latency counts from then (no coordinated omission). The part `group` has no HTTP: it is group
//! commit alone. Clients, api and servers share the machine's cores; the clients do as little as can be (`wire`).

mod bare;
mod clients;
mod in_process;
mod latency;
mod shop;
mod wire;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::Common;
use crate::figures::Figures;
use clients::{Load, closed_loop};
use shop::free_address;

pub(crate) use bare::{Arguments as BarePageArguments, serve as serve_bare_page};
pub(crate) use clients::order;
pub(crate) use shop::Shop;
pub(crate) use wire::{Connection, Request};

/// `cargo x bench api`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Clients that ask at the same time
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// The same for the parts of product pages: so many that the api is never idle
    #[arg(long, default_value_t = 256)]
    page_clients: usize,
    /// Seconds of each part
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Products of the shop
    #[arg(long, default_value_t = 2_000)]
    products: usize,
    /// Parts to run; all of them when none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    #[command(flatten)]
    common: Common,
}

/// What can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `api.orders` of 3 lines, `api.orders_gain` over a transaction for each request, and `api.hot_orders` of one product
    Orders,
    /// `api.likes`, `api.likes_gain`
    Likes,
    /// `api.detail` of cached products, each with its view recorded, and `api.detail_plain` without, each beside `ceiling.detail`, a
    /// bare handler that asks the cache the same; `_cpu` is what the serving process used for a page, `api.detail_recorded` how many
    /// pages had their view recorded
    Detail,
    /// `api.group_orders|likes|views`: group commit in this process, without HTTP
    Group,
    /// `api.detail_p50|p99`, `api.order_p50|p99` at half of what was reached in this run; runs `orders` and `detail` as well
    Latency,
}

/// Settings of the api under which no view is recorded.
const PLAIN: [(&str, &str); 1] = [("COMMERCE_API_VIEWS_RECORDED", "false")];
/// Settings of the api under which each order and like has a transaction of its own.
const ALONE: [(&str, &str); 2] =
    [("COMMERCE_API_ORDER_BATCH_MAX", "0"), ("COMMERCE_API_LIKE_BATCH_MAX", "0")];

/// Runs the parts in turn and prints the figures.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = Figures::default();
    figures.setting("clients", &arguments.clients);
    figures.setting("page_clients", &arguments.page_clients);
    figures.setting("seconds", &arguments.seconds);
    figures.setting("products", &arguments.products);
    let runs = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    for number in 1..=arguments.common.runs {
        let begin = |part: Part| eprintln!("run {number} of {}: {part:?}", arguments.common.runs);
        let (mut orders, mut details) = (0.0, 0.0);
        if runs(Part::Orders) || runs(Part::Latency) {
            begin(Part::Orders);
            let names = ["api.orders", "api.orders_gain"];
            orders = measure_gain(arguments, Load::Orders, names, &mut figures).await?;
            let names = ["api.hot_orders", "api.hot_orders_gain"];
            measure_gain(arguments, Load::HotOrders, names, &mut figures).await?;
        }
        if runs(Part::Likes) {
            begin(Part::Likes);
            let names = ["api.likes", "api.likes_gain"];
            measure_gain(arguments, Load::Likes, names, &mut figures).await?;
        }
        if runs(Part::Detail) || runs(Part::Latency) {
            begin(Part::Detail);
            details = measure_details(arguments, &mut figures).await?;
        }
        if runs(Part::Group) {
            begin(Part::Group);
            in_process::measure(arguments, &mut figures).await?;
        }
        if runs(Part::Latency) {
            begin(Part::Latency);
            let shop = Shop::open(arguments.products, &[]).await?;
            latency::measure(&shop, Load::Details, details / 2.0, arguments.seconds, &mut figures).await?;
            latency::measure(&shop, Load::Orders, orders / 2.0, arguments.seconds, &mut figures).await?;
            shop.close().await?;
        }
    }
    figures.finish(arguments.common.json.as_deref())
}

/// The rate of what is executed together, and its ratio to the same one by one.
async fn measure_gain(
    arguments: &Arguments,
    load: Load,
    [rate_name, gain_name]: [&'static str; 2],
    figures: &mut Figures,
) -> Result<f64> {
    let together = rate(arguments, &[], load).await?;
    let alone = rate(arguments, &ALONE, load).await?;
    figures.add(rate_name, "requests/s", together);
    figures.add(gain_name, "of one by one", together / alone);
    Ok(together)
}

/// The rates of a product's page with and without its view, and their ratios to a bare handler; answers the first.
async fn measure_details(arguments: &Arguments, figures: &mut Figures) -> Result<f64> {
    let Arguments { page_clients: clients, seconds, products, .. } = *arguments;
    let shop = Shop::open(products, &[]).await?;
    let address = free_address()?;
    let page = bare::BarePage::start(&address, shop.prefix()).await?;
    let ceiling = closed_loop(&address, &shop.products, Load::Details, clients, seconds).await?;
    figures.add("ceiling.detail", "requests/s", ceiling);
    figures.add(
        "ceiling.detail_cpu",
        "µs/request",
        micros_a_request(page.role().usage()?.cpu, ceiling, seconds),
    );
    drop(page);
    let before = shop.views().await?;
    let recorded = measure_detail(arguments, &shop, ["api.detail", "api.detail_cpu"], figures).await?;
    figures.add("api.detail_ratio", "of ceiling.detail", recorded / ceiling);
    let views = f64::from(u32::try_from(shop.views().await? - before)?);
    figures.add("api.detail_recorded", "of the pages", views / (recorded * f64::from(seconds)));
    shop.close().await?;
    let shop = Shop::open(products, &PLAIN).await?;
    let plain =
        measure_detail(arguments, &shop, ["api.detail_plain", "api.detail_plain_cpu"], figures).await?;
    figures.add("api.detail_plain_ratio", "of ceiling.detail", plain / ceiling);
    shop.close().await?;
    Ok(recorded)
}

/// The rate of a shop's pages, and what each cost the api's process.
async fn measure_detail(
    arguments: &Arguments,
    shop: &Shop,
    [rate_name, cpu_name]: [&'static str; 2],
    figures: &mut Figures,
) -> Result<f64> {
    let Arguments { page_clients: clients, seconds, .. } = *arguments;
    let before = shop.role.usage()?.cpu;
    let rate = closed_loop(shop.address(), &shop.products, Load::Details, clients, seconds).await?;
    let used = shop.role.usage()?.cpu - before;
    figures.add(rate_name, "requests/s", rate);
    figures.add(cpu_name, "µs/request", micros_a_request(used, rate, seconds));
    Ok(rate)
}

fn micros_a_request(used: Duration, rate: f64, seconds: u32) -> f64 {
    used.as_secs_f64() * 1e6 / (rate * f64::from(seconds))
}

/// Answers per second in a shop of its own, under these settings of the api.
async fn rate(arguments: &Arguments, settings: &[(&str, &str)], load: Load) -> Result<f64> {
    let shop = Shop::open(arguments.products, settings).await?;
    let rate =
        closed_loop(shop.address(), &shop.products, load, arguments.clients, arguments.seconds).await?;
    shop.close().await?;
    Ok(rate)
}
