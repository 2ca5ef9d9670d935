//! Latency at a rate: requests begin when they are due, and the time until then is part of it.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::clients::{Asker, Load};
use super::shop::Shop;
use super::wire::{Connection, Request};
use crate::figures::Figures;

/// Longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;

/// Connections, as a gateway in front of the api may have: as many as it works on at once. A request that finds none free waits, and
/// that is part of its latency.
const CONNECTIONS_MAX: usize = 512;

/// Connections that are free now.
struct Connections<'a> {
    address: &'a str,
    permits: Semaphore,
    free: RefCell<Vec<Connection>>,
}

impl Connections<'_> {
    /// Asks on a free connection, or on a new one.
    async fn ask(&self, request: &Request) -> Result<()> {
        let _permit = self.permits.acquire().await?;
        let free = self.free.borrow_mut().pop();
        let mut connection = match free {
            Some(connection) => connection,
            None => Connection::open(self.address).await?,
        };
        connection.ask(request).await?;
        self.free.borrow_mut().push(connection);
        Ok(())
    }
}

/// Requests at `rate` a second for so long; adds both quantiles.
pub(super) async fn measure(
    shop: &Shop,
    load: Load,
    rate: f64,
    seconds: u32,
    figures: &mut Figures,
) -> Result<()> {
    let (p50, p99, at) = match load {
        Load::Details => ("api.detail_p50", "api.detail_p99", "api.detail_rate"),
        Load::Orders | Load::HotOrders | Load::Likes => ("api.order_p50", "api.order_p99", "api.order_rate"),
    };
    let mut latencies = Histogram::<u64>::new_with_bounds(1, MICROS_MAX, 3)?;
    let permits = Semaphore::new(CONNECTIONS_MAX);
    let connections = Connections { address: shop.address(), permits, free: RefCell::default() };
    let (mut asker, mut asked) = (Asker::new(&shop.products, 1), FuturesUnordered::new());
    let begun = Instant::now();
    let gap = Duration::from_secs_f64(1.0 / rate);
    let end = begun + Duration::from_secs(u64::from(seconds));
    let mut due = begun;
    while due < end || !asked.is_empty() {
        tokio::select! {
            Some(answer) = asked.next(), if !asked.is_empty() => {
                let micros: Result<u64> = answer;
                latencies.saturating_record(micros?);
            }
            () = tokio::time::sleep_until(due), if due < end => {
                // The timer has milliseconds: all that became due meanwhile begins now.
                while due < end && due <= Instant::now() {
                    let (request, from, connections) = (asker.ask(load)?, due, &connections);
                    asked.push(async move {
                        connections.ask(&request).await?;
                        Ok(u64::try_from(from.elapsed().as_micros())?)
                    });
                    due += gap;
                }
            }
        }
    }
    let millis =
        |quantile: f64| Duration::from_micros(latencies.value_at_quantile(quantile)).as_secs_f64() * 1_000.0;
    figures.add(p50, "ms", millis(0.5));
    figures.add(p99, "ms", millis(0.99));
    figures.add(at, "requests/s", rate);
    Ok(())
}
