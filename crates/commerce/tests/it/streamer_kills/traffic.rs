//! What goes on while streamers die: stock that comes in and is sold, likes given and taken back, poison if it is asked for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use testkit::eventually;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::poison::Poison;
use crate::harness::Shop;

/// So many that every partition has some.
const PRODUCTS: usize = 12;
/// From one round to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// A product, and what must be shown of it.
struct Product {
    id: i64,
    is_liked: bool,
    sales: i64,
}

/// Rounds of commands, with their ledger.
pub(super) struct Traffic<'a> {
    shop: &'a Shop,
    products: Vec<Product>,
    poison: Option<Poison>,
    rounds: usize,
    pace: Interval,
}

impl<'a> Traffic<'a> {
    pub(super) async fn begin(shop: &'a Shop, poison: Option<Poison>) -> Result<Self> {
        let mut products = Vec::with_capacity(PRODUCTS);
        for number in 0..PRODUCTS {
            let id = shop.product(&format!("p{number}"), 0).await?;
            products.push(Product { id, is_liked: false, sales: 0 });
        }
        let mut pace = interval(PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { shop, products, poison, rounds: 0, pace })
    }

    /// Waits until the next round is due. Can be given up.
    pub(super) async fn pause(&mut self) {
        self.pace.tick().await;
    }

    /// One round: a unit of a product comes in, is looked at and sold; somebody changes his mind.
    pub(super) async fn round(&mut self) -> Result<()> {
        let number = self.rounds;
        self.rounds += 1;
        let product = &mut self.products[number % PRODUCTS];
        let id = product.id;
        let adjust = format!("/api-admin/v1/products/{id}/stock/adjust");
        self.shop.succeed(Method::POST, &adjust, Some(json!({"delta": 1}))).await?;
        // The card that says that there is one left is in the cache now, unless the cache was not told yet that there is.
        self.shop.succeed(Method::GET, &format!("/api/v1/products/{id}"), None).await?;
        let (status, answer) = self.shop.order(id, 1).await?;
        ensure!(status < 300, "{answer}");
        product.sales += 1;
        let method = if product.is_liked { Method::DELETE } else { Method::POST };
        self.shop.succeed(method, &format!("/api/v1/like/products/{id}"), None).await?;
        product.is_liked = !product.is_liked;
        match &mut self.poison {
            Some(poison) => poison.send(number, id).await,
            None => Ok(()),
        }
    }

    /// Waits until all that was done is shown and all poison set aside, and nothing else.
    pub(super) async fn judge(self) -> Result<()> {
        for product in &self.products {
            self.shop.shows(product.id, i64::from(product.is_liked), product.sales).await?;
            let page = format!("/api/v1/products/{}", product.id);
            eventually("the product page says sold out", async || {
                let shown = self.shop.succeed(Method::GET, &page, None).await?;
                Ok((shown["soldOut"] == true).then_some(()))
            })
            .await
            .with_context(|| page.clone())?;
        }
        if let Some(poison) = self.poison {
            return poison.judge(self.shop).await;
        }
        let letters: i64 = sqlx::query_scalar("select count(*) from inbox.dead_letter")
            .fetch_one(&mut self.shop.connect().await?)
            .await?;
        ensure!(letters == 0, "{letters} dead letters without poison");
        Ok(())
    }
}
