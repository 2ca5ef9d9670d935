//! `api`: what buyers wait for, measured over HTTP on the release binary's `api` role.
//!
//! The parts that count are closed loops: so many clients, each asking again as soon as it is answered. Both sides of a ratio
//! run in turn on databases of their own. The part `latency` is an open loop: requests begin when they are due, whether or not
//! earlier ones are answered, and a latency counts from then (no coordinated omission).

mod clients;
mod latency;
mod shop;

use anyhow::Result;
use clap::ValueEnum;

use crate::Common;
use crate::figures::Figures;
use clients::Load;
use shop::Shop;

/// `cargo x bench api`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Clients that ask at the same time
    #[arg(long, default_value_t = 64)]
    clients: usize,
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
    /// `api.detail` of cached products, each with its view recorded
    Detail,
    /// `api.detail_p50|p99`, `api.order_p50|p99` at half of what was reached in this run; runs `orders` and `detail` as well
    Latency,
}

/// Settings of the api under which each order and like has a transaction of its own.
const ALONE: [(&str, &str); 2] =
    [("COMMERCE_API_ORDER_BATCH_MAX", "0"), ("COMMERCE_API_LIKE_BATCH_MAX", "0")];

/// Runs the parts in turn and prints the figures.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = Figures::default();
    figures.setting("clients", &arguments.clients);
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
            details = rate(arguments, &[], Load::Details).await?;
            figures.add("api.detail", "requests/s", details);
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

/// Answers per second in a shop of its own, under these settings of the api.
async fn rate(arguments: &Arguments, settings: &[(&str, &str)], load: Load) -> Result<f64> {
    let shop = Shop::open(arguments.products, settings).await?;
    let rate = clients::closed_loop(&shop, load, arguments.clients, arguments.seconds).await?;
    shop.close().await?;
    Ok(rate)
}
