//! Buyers at work: each a task, each waiting for one answer before the next command.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::{RwLock, RwLockReadGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::pace::Pace;
use super::plan::{BuyerPlan, PlannedLine, Step, TrafficSettings};
use super::shop::{Placed, Shop, ShopError};
use super::{PlannedProduct, Popularity};
use crate::ledger::{BoughtLine, Ledger, ViewAnswer};

/// First pause before a command without a definite answer is sent again; doubled each time.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest such pause.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A command without a definite answer for so long ends the run.
const RETRY_DEADLINE: Duration = Duration::from_secs(60);

/// Commands by what became of them.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Commands with a definite answer.
    pub done: AtomicU64,
    /// Orders refused because there was not enough.
    pub sold_out: AtomicU64,
    /// Requests that were sent again because the answer was not definite.
    pub retries: AtomicU64,
}

/// The shop with its products, and what its buyers were told.
#[derive(Debug)]
pub struct Market {
    /// The api.
    pub shop: Shop,
    /// The products by index.
    pub products: Vec<PlannedProduct>,
    /// Their ids by index.
    pub product_ids: Vec<i64>,
    /// How far the traffic is.
    pub tallies: Tallies,
    /// How far it may go.
    pub pace: Pace,
    ledger: Mutex<Ledger>,
    /// One for each product that the operator restocks: orders and cancellations hold it shared until they are in the
    /// ledger, the operator alone, so that what he sets the stock to has one place in the order of events.
    restocking: HashMap<usize, RwLock<()>>,
}

impl Market {
    /// The market right after its products were created.
    #[must_use]
    pub fn new(shop: Shop, products: Vec<PlannedProduct>, product_ids: Vec<i64>) -> Self {
        let mut ledger = Ledger::new();
        for (product, id) in products.iter().zip(&product_ids) {
            ledger.created(*id, product.stock);
        }
        let restocked = products.iter().enumerate().filter(|(_, product)| product.restock.is_some());
        let restocking = restocked.map(|(index, _)| (index, RwLock::new(()))).collect();
        Self {
            shop,
            products,
            product_ids,
            tallies: Tallies::default(),
            pace: Pace::default(),
            ledger: Mutex::new(ledger),
            restocking,
        }
    }

    /// The ledger. Never held over a wait.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock of a product that is restocked.
    pub(super) fn restocking(&self, product: usize) -> Option<&RwLock<()>> {
        self.restocking.get(&product)
    }

    /// The id of a product index.
    pub(super) fn id(&self, product: usize) -> anyhow::Result<i64> {
        self.product_ids
            .get(product)
            .copied()
            .with_context(|| format!("product index {product} was not created"))
    }

    /// Asks again until the answer is definite.
    pub(crate) async fn definite<T, F, Fut>(&self, mut ask: F) -> Result<T, ShopError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, ShopError>>,
    {
        let deadline = Instant::now() + RETRY_DEADLINE;
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            match ask().await {
                Err(ShopError::Indefinite(_)) if Instant::now() < deadline => {
                    self.tallies.retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
                outcome => return outcome,
            }
        }
    }

    /// Shared locks of the products that are restocked, in product order, which rules out waiting in a ring.
    async fn hold(&self, lines: &[PlannedLine]) -> Vec<RwLockReadGuard<'_, ()>> {
        let mut products: Vec<usize> = lines.iter().map(|line| line.product).collect();
        products.sort_unstable();
        let mut held = Vec::new();
        for product in products {
            if let Some(lock) = self.restocking(product) {
                held.push(lock.read().await);
            }
        }
        held
    }

    fn bought(&self, lines: &[PlannedLine]) -> anyhow::Result<Vec<BoughtLine>> {
        let line = |line: &PlannedLine| {
            let product = self.products.get(line.product).context("product index is out of range")?;
            let product_id = self.id(line.product)?;
            Ok(BoughtLine { product_id, quantity: line.quantity, unit_price: product.price })
        };
        lines.iter().map(line).collect()
    }
}

/// How a run of traffic went.
#[derive(Debug, Clone, Copy)]
pub struct Driven {
    /// When the first command was sent.
    pub begun: Instant,
    /// From then to the last answer, without the time for which traffic was held back.
    pub took: Duration,
}

/// Drives the whole plan, with at most `in_flight` commands at once.
///
/// # Errors
/// An answer against the contract, or a command without a definite answer for a minute.
pub async fn drive(
    market: Arc<Market>,
    settings: TrafficSettings,
    popularity: Arc<Popularity>,
    in_flight: usize,
) -> anyhow::Result<Driven> {
    let slots = Arc::new(Semaphore::new(in_flight));
    let begun = Instant::now();
    let mut buyers = JoinSet::new();
    for number in 1..=settings.buyers {
        let plan = BuyerPlan::new(&settings, Arc::clone(&popularity), number);
        let buyer = Buyer { id: i64::try_from(number)?, market: Arc::clone(&market), orders: HashMap::new() };
        let slots = Arc::clone(&slots);
        buyers.spawn(async move { buyer.run(plan, &slots).await.with_context(|| format!("buyer {number}")) });
    }
    while let Some(ended) = buyers.join_next().await {
        ended.context("a buyer panicked")??;
    }
    Ok(Driven { begun, took: begun.elapsed().saturating_sub(market.pace.held_for()) })
}

struct Buyer {
    id: i64,
    market: Arc<Market>,
    /// Completed orders by their number in the plan.
    orders: HashMap<usize, (Placed, Vec<PlannedLine>)>,
}

impl Buyer {
    async fn run(mut self, plan: BuyerPlan, slots: &Semaphore) -> anyhow::Result<()> {
        for step in plan {
            self.market.pace.wait(|| self.market.tallies.done.load(Ordering::Relaxed)).await;
            let slot = slots.acquire().await?;
            self.step(step).await?;
            drop(slot);
            self.market.tallies.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::View { product } => self.view(product).await,
            Step::Like { product } => self.like(product).await,
            Step::Unlike { product } => self.unlike(product).await,
            Step::Order { number, lines } => self.order(number, lines).await,
            Step::Cancel { number, instead } => self.cancel(number, instead).await,
        }
    }

    async fn view(&self, product: usize) -> anyhow::Result<()> {
        let product_id = self.market.id(product)?;
        let answer: ViewAnswer = self.market.shop.view(self.id, product_id).await?;
        self.market.ledger().viewed(product_id, answer);
        Ok(())
    }

    async fn like(&self, product: usize) -> anyhow::Result<()> {
        let product_id = self.market.id(product)?;
        self.market.definite(|| self.market.shop.like(self.id, product_id)).await?;
        self.market.ledger().liked(self.id, product_id);
        Ok(())
    }

    async fn unlike(&self, product: usize) -> anyhow::Result<()> {
        let product_id = self.market.id(product)?;
        self.market.definite(|| self.market.shop.unlike(self.id, product_id)).await?;
        self.market.ledger().unliked(self.id, product_id);
        Ok(())
    }

    async fn order(&mut self, number: usize, lines: Vec<PlannedLine>) -> anyhow::Result<()> {
        let market = Arc::clone(&self.market);
        let bought = market.bought(&lines)?;
        let items: Vec<(i64, i64)> = bought.iter().map(|line| (line.product_id, line.quantity)).collect();
        let key = format!("demo-{}-{number}", self.id);
        let _held = market.hold(&lines).await;
        match market.definite(|| market.shop.place_order(self.id, &items, &key)).await {
            Ok(placed) => {
                let amount: i64 = bought.iter().map(|line| line.quantity * line.unit_price).sum();
                if placed.total_amount != amount {
                    bail!("order {} costs {}, its lines {amount}", placed.order_id, placed.total_amount);
                }
                market.ledger().ordered(&bought);
                self.orders.insert(number, (placed, lines));
                Ok(())
            }
            Err(error) if error.is_sold_out() => {
                market.tallies.sold_out.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn cancel(&mut self, number: usize, instead: usize) -> anyhow::Result<()> {
        // The order was refused: there is nothing to take back.
        let Some((placed, lines)) = self.orders.remove(&number) else { return self.view(instead).await };
        let market = Arc::clone(&self.market);
        let bought = market.bought(&lines)?;
        let _held = market.hold(&lines).await;
        market.definite(|| market.shop.cancel_order(self.id, placed.order_id)).await?;
        market.ledger().cancelled(&bought);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PLACED: &str = r#"{"meta":{"result":"SUCCESS"},"data":{"orderId":7,"totalAmount":20}}"#;

    /// A server that drops the connection instead of its first answers; it hands back the requests it got.
    async fn server(dropped: usize, answer: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 16_384];
                let mut length = 0;
                // Head and body may come apart.
                while !String::from_utf8_lossy(&bytes[..length]).contains("\r\n\r\n{") {
                    length += stream.read(&mut bytes[length..]).await.unwrap();
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&bytes[..length]).into_owned());
                if number >= dropped {
                    let length = answer.len();
                    let head = "HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-type: application/json";
                    let text = format!("{head}\r\ncontent-length: {length}\r\n\r\n{answer}");
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
            }
        });
        (base, requests)
    }

    fn buyer(base: &str) -> Buyer {
        let product = PlannedProduct {
            code: "A".to_owned(),
            name: "A".to_owned(),
            price: 10,
            stock: 5,
            restock: Some(3),
        };
        let market = Market::new(Shop::new(base, 4).unwrap(), vec![product], vec![1]);
        Buyer { id: 3, market: Arc::new(market), orders: HashMap::new() }
    }

    #[tokio::test]
    async fn an_order_without_an_answer_is_asked_again_with_its_key_and_entered_once() {
        let (base, requests) = server(2, PLACED).await;
        let mut buyer = buyer(&base);
        buyer.order(4, vec![PlannedLine { product: 0, quantity: 2 }]).await.unwrap();
        let requests = requests.lock().unwrap();
        assert_eq!(requests.len(), 3);
        assert!(
            requests.iter().all(|request| request.to_lowercase().contains("idempotency-key: demo-3-4\r\n"))
        );
        let expected = buyer.market.ledger().products()[&1];
        assert_eq!((expected.sales_units, expected.sales_amount, expected.stock), (2, 20, 3));
        assert_eq!(buyer.market.tallies.retries.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_order_that_costs_something_else_than_its_lines_ends_the_run() {
        let (base, _) = server(0, PLACED).await;
        let error = buyer(&base).order(0, vec![PlannedLine { product: 0, quantity: 1 }]).await.unwrap_err();
        assert_eq!(error.to_string(), "order 7 costs 20, its lines 10");
    }

    #[tokio::test]
    async fn a_view_without_an_answer_is_unknown_and_not_repeated() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let buyer = buyer(&format!("http://{}", listener.local_addr().unwrap()));
        // Nobody listens any more: the view certainly has no answer.
        drop(listener);
        buyer.view(0).await.unwrap();
        let expected = buyer.market.ledger().products()[&1];
        assert_eq!((expected.views, expected.views_unknown), (0, 1));
    }

    #[tokio::test]
    async fn the_operator_waits_for_orders_of_the_product_to_be_entered() {
        let market = &buyer("http://127.0.0.1:9").market;
        let held = market.hold(&[PlannedLine { product: 0, quantity: 1 }]).await;
        assert!(market.restocking(0).unwrap().try_write().is_err());
        drop(held);
        assert!(market.restocking(0).unwrap().try_write().is_ok());
    }
}
