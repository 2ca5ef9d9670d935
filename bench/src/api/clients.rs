//! What clients ask for, and clients that ask again as soon as they are answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::RequestBuilder;
use serde_json::json;

use super::shop::Shop;

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

/// Chooses requests.
pub(super) struct Asker {
    dice: SmallRng,
    /// The like that is taken back next.
    liked: Option<(i64, i64)>,
}

impl Asker {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: SmallRng::seed_from_u64(seed), liked: None }
    }

    /// The next request.
    pub(super) fn ask(&mut self, shop: &Shop, load: Load) -> Result<RequestBuilder> {
        let user = self.dice.random_range(1..=BUYERS);
        let product = self.product(shop)?;
        Ok(match load {
            Load::Orders => {
                let mut items = vec![json!({ "productId": product, "quantity": 1 })];
                for _ in 1..LINES {
                    items.push(json!({ "productId": self.product(shop)?, "quantity": 1 }));
                }
                shop.post("/api/v1/orders", user).json(&json!({ "items": items }))
            }
            Load::HotOrders => {
                let product = shop.products.first().context("no product")?;
                let items = [json!({ "productId": product, "quantity": 1 })];
                shop.post("/api/v1/orders", user).json(&json!({ "items": items }))
            }
            Load::Likes => match self.liked.take() {
                Some((user, product)) => shop.delete(&format!("/api/v1/like/products/{product}"), user),
                None => {
                    self.liked = Some((user, product));
                    shop.post(&format!("/api/v1/like/products/{product}"), user)
                }
            },
            Load::Details => shop.get(&format!("/api/v1/products/{product}")),
        })
    }

    fn product(&mut self, shop: &Shop) -> Result<i64> {
        let index = self.dice.random_range(0..shop.products.len());
        shop.products.get(index).copied().context("no product")
    }
}

/// Sends a request and reads its answer whole.
pub(super) async fn answered(request: RequestBuilder) -> Result<()> {
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok(())
}

/// Answers per second to `clients` that never pause. A refused request is an error: nothing is measured then.
pub(super) async fn closed_loop(shop: &Shop, load: Load, clients: usize, seconds: u32) -> Result<f64> {
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(u64::from(seconds));
    let clients = (0..clients).map(async |seed| {
        let mut asker = Asker::new(u64::try_from(seed)?);
        let mut count = 0_u32;
        while Instant::now() < deadline {
            answered(asker.ask(shop, load)?).await?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    let counts = futures_util::future::try_join_all(clients).await?;
    let total: u32 = counts.into_iter().sum();
    Ok(f64::from(total) / begun.elapsed().as_secs_f64())
}
