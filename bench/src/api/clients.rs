//! What clients ask for, and clients that ask again as soon as they are answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::wire::{Connection, Request};

/// Lines of an order.
const LINES: usize = 3;
/// Buyers of the shop.
const BUYERS: i64 = 100_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Orders of three products each.
    Orders,
    /// Orders of one unit of one product, the same for all.
    HotOrders,
    /// A like of a buyer and product by chance, taken back by the next request.
    Likes,
    /// A product's page.
    Details,
}

/// Chooses what is asked for.
pub(super) struct Asker<'a> {
    products: &'a [i64],
    dice: SmallRng,
    /// The like that is taken back next.
    liked: Option<(i64, i64)>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(products: &'a [i64], seed: u64) -> Self {
        Self { products, dice: SmallRng::seed_from_u64(seed), liked: None }
    }

    /// The next request.
    pub(super) fn ask(&mut self, load: Load) -> Result<Request> {
        Ok(match load {
            Load::Orders => {
                let user = self.user();
                order(user, &self.lines()?)
            }
            Load::HotOrders => order(self.user(), &[*self.products.first().context("no product")?]),
            Load::Likes => {
                let (user, product, is_liked) = self.like()?;
                let method = if is_liked { "POST" } else { "DELETE" };
                Request::new(method, &format!("/api/v1/like/products/{product}"), user)
            }
            Load::Details => {
                let user = self.user();
                Request::new("GET", &format!("/api/v1/products/{}", self.product()?), user)
            }
        })
    }

    pub(super) fn user(&mut self) -> i64 {
        self.dice.random_range(1..=BUYERS)
    }

    pub(super) fn product(&mut self) -> Result<i64> {
        let index = self.dice.random_range(0..self.products.len());
        self.products.get(index).copied().context("no product")
    }

    /// The products of an order.
    pub(super) fn lines(&mut self) -> Result<Vec<i64>> {
        (0..LINES).map(|_| self.product()).collect()
    }

    /// A buyer and a product, and whether he likes it from now on.
    pub(super) fn like(&mut self) -> Result<(i64, i64, bool)> {
        if let Some((user, product)) = self.liked.take() {
            return Ok((user, product, false));
        }
        let (user, product) = (self.user(), self.product()?);
        self.liked = Some((user, product));
        Ok((user, product, true))
    }
}

/// An order of one unit of each of the products.
pub(crate) fn order(user: i64, products: &[i64]) -> Request {
    let items: Vec<_> =
        products.iter().map(|product| json!({ "productId": product, "quantity": 1 })).collect();
    Request::post("/api/v1/orders", user, &json!({ "items": items }).to_string())
}

/// Answers per second to `clients` that never pause. A refused request is an error: nothing is measured then.
pub(super) async fn closed_loop(
    address: &str,
    products: &[i64],
    load: Load,
    clients: usize,
    seconds: u32,
) -> Result<f64> {
    at_once(clients, seconds, async |seed, deadline| {
        let mut asker = Asker::new(products, seed);
        let mut connection = Connection::open(address).await?;
        let mut count = 0_u32;
        while Instant::now() < deadline {
            connection.ask(&asker.ask(load)?).await?;
            count += 1;
        }
        Ok(count)
    })
    .await
}

/// What `clients` get done per second until the deadline; each is given a number.
pub(super) async fn at_once(
    clients: usize,
    seconds: u32,
    client: impl AsyncFn(u64, Instant) -> Result<u32>,
) -> Result<f64> {
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(u64::from(seconds));
    let clients = (0..clients).map(async |number| client(u64::try_from(number)?, deadline).await);
    let counts = futures_util::future::try_join_all(clients).await?;
    let total: u32 = counts.into_iter().sum();
    Ok(f64::from(total) / begun.elapsed().as_secs_f64())
}
