//! The acts of the demo in their order: set up, traffic with faults, settle, compare.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::DemoSettings;
use super::broker::Broker;
use super::check::{check_dead_letters, check_products};
use super::faults::{Done, Faults};
use super::isolation::Isolation;
use super::prober::{Latencies, Prober};
use super::report::{Report, Times};
use super::resend::Resender;
use super::roles::{Role, Roles};
use super::screen::Screen;
use super::settle::settle;
use crate::ledger::Ledger;
use crate::traffic::{
    Driven, Market, NewProduct, PlannedProduct, Popularity, Restocking, Shop, TrafficSettings, catalogue,
    drive, restock,
};
use crate::verify::{Ends, Pipeline};

/// Commands under way at once: enough to keep two cores busy. With more of them, nothing gets done sooner and the
/// pipeline only waits longer for its turn.
const IN_FLIGHT: usize = 32;
/// Products of one bulk creation.
const BULK: usize = 500;
/// Products that only the prober touches.
const PROBED_PRODUCTS: usize = 6;
/// The operator stops after this share of the commands, so that some products end sold out.
const RESTOCK_UNTIL_PERCENT: u64 = 75;
/// How often the bar moves.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

/// One run of the demo.
pub(super) struct Stage {
    settings: Arc<DemoSettings>,
    isolation: Isolation,
    roles: Arc<Roles>,
    broker: Arc<Broker>,
    screen: Screen,
}

/// What the traffic left behind.
struct Played {
    market: Arc<Market>,
    done: Done,
    restocked: u64,
    latencies: Latencies,
    driven: Driven,
}

impl Stage {
    pub(super) fn new(
        settings: &Arc<DemoSettings>,
        isolation: &Isolation,
        roles: &Arc<Roles>,
        broker: &Arc<Broker>,
        screen: &Screen,
    ) -> Self {
        Self {
            settings: Arc::clone(settings),
            isolation: isolation.clone(),
            roles: Arc::clone(roles),
            broker: Arc::clone(broker),
            screen: screen.clone(),
        }
    }

    /// Plays every act.
    pub(super) async fn play(&self) -> anyhow::Result<Report> {
        self.start_roles().await?;
        let played = self.traffic().await?;
        let pipeline = Pipeline {
            shop_url: self.isolation.database_url.clone(),
            metrics_url: self.isolation.database_url.clone(),
            kafka: self.isolation.client(&self.settings),
            topic_prefix: self.isolation.topic_prefix.clone(),
        };
        let ended = Instant::now();
        let ends = settle(&pipeline, &self.screen).await?;
        let times = Times {
            traffic: played.driven.took,
            settling: ended.elapsed(),
            total: played.driven.begun.elapsed(),
        };
        let ledger = played.market.ledger().clone();
        let mut products = check_products(&played.market.shop, &pipeline, ledger.products()).await?;
        let letters = check_dead_letters(&pipeline, &played.done.poison).await?;
        products.lines.extend(letters.lines);
        products.differences.extend(letters.differences);
        Ok(report(&self.settings, &played, &ledger, products, &ends, times))
    }

    async fn start_roles(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.roles.run_once("migrate", &[]).await?;
        tokio::try_join!(
            self.roles.start(Role::Api),
            self.roles.start(Role::Relay),
            self.roles.start(Role::Streamer),
        )?;
        self.screen
            .line(&format!("api, relay and streamer are ready after {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    async fn traffic(&self) -> anyhow::Result<Played> {
        let settings = TrafficSettings {
            seed: self.settings.seed,
            commands: self.settings.commands,
            buyers: self.settings.buyers,
            products: self.settings.products,
        };
        let popularity = Arc::new(Popularity::new(settings.seed, settings.products));
        let shop = Shop::new(&self.roles.url(Role::Api), IN_FLIGHT)?;
        let mut products = catalogue(&settings, &popularity);
        products.extend((0..PROBED_PRODUCTS).map(PlannedProduct::probed));
        let product_ids = create(&shop, &products).await?;
        self.screen.line(&format!(
            "{} products created, {} buyers begin",
            product_ids.len(),
            settings.buyers
        ));
        let probed = product_ids.get(settings.products..).unwrap_or_default().to_vec();
        let traded = product_ids.get(..settings.products).unwrap_or_default().to_vec();
        let market = Arc::new(Market::new(shop, products, product_ids));
        let faults = self.faults(&market, traded)?;
        let prober = Prober {
            market: Arc::clone(&market),
            database_url: self.isolation.database_url.clone(),
            product_ids: probed,
            buyer_id: i64::try_from(settings.buyers)? + 1,
            disturbance: Arc::clone(&faults.disturbance),
        };
        let restocking = Restocking::default();
        let stop = CancellationToken::new();
        let work = async {
            let driving = drive(Arc::clone(&market), settings, Arc::clone(&popularity), IN_FLIGHT);
            let until = settings.commands * RESTOCK_UNTIL_PERCENT / 100;
            let restocked = restock(&market, &restocking, until);
            let (driven, ..) =
                tokio::try_join!(driving, faults.run(), restocked, self.show_progress(&market))?;
            stop.cancel();
            anyhow::Ok(driven)
        };
        let (driven, latencies) = tokio::try_join!(work, prober.run(stop.clone()))?;
        let restocked = restocking.done.load(Ordering::Relaxed);
        Ok(Played { done: faults.done(), restocked, latencies, driven, market })
    }

    fn faults(&self, market: &Arc<Market>, traded: Vec<i64>) -> anyhow::Result<Faults> {
        let client = self.isolation.client(&self.settings);
        let resender =
            Resender::new(client, self.isolation.topic_prefix.clone(), traded, self.settings.seed)?;
        Ok(Faults {
            settings: Arc::clone(&self.settings),
            roles: Arc::clone(&self.roles),
            broker: Arc::clone(&self.broker),
            market: Arc::clone(market),
            resender,
            screen: self.screen.clone(),
            disturbance: Arc::default(),
            done: std::sync::Mutex::default(),
        })
    }

    async fn show_progress(&self, market: &Market) -> anyhow::Result<()> {
        let bar = self.screen.bar("commands", self.settings.commands);
        loop {
            let done = market.tallies.done.load(Ordering::Relaxed);
            bar.set(done);
            if done >= self.settings.commands {
                return Ok(());
            }
            sleep(BAR_INTERVAL).await;
        }
    }
}

async fn create(shop: &Shop, products: &[PlannedProduct]) -> anyhow::Result<Vec<i64>> {
    let mut ids = Vec::with_capacity(products.len());
    for chunk in products.chunks(BULK) {
        let new: Vec<NewProduct<'_>> = chunk
            .iter()
            .map(|product| NewProduct {
                code: &product.code,
                name: &product.name,
                price: product.price,
                stock: product.stock,
            })
            .collect();
        ids.extend(shop.create_products(&new).await?);
    }
    anyhow::ensure!(
        ids.len() == products.len(),
        "{} products were created as {} ids",
        products.len(),
        ids.len()
    );
    Ok(ids)
}

fn report(
    settings: &Arc<DemoSettings>,
    played: &Played,
    ledger: &Ledger,
    comparison: super::check::Comparison,
    ends: &Ends,
    times: Times,
) -> Report {
    let tallies = &played.market.tallies;
    Report {
        settings: Arc::clone(settings),
        lines: comparison.lines,
        differences: comparison.differences,
        views_unknown: ledger.products().values().map(|product| product.views_unknown).sum(),
        orders_sold_out: tallies.sold_out.load(Ordering::Relaxed),
        restocked: played.restocked,
        retries: tallies.retries.load(Ordering::Relaxed),
        kills: played.done.kills,
        outages: played.done.outages,
        duplicates: played.done.duplicates,
        commands: tallies.done.load(Ordering::Relaxed),
        records: ends.values().sum(),
        times,
        latencies: played.latencies.clone(),
    }
}
