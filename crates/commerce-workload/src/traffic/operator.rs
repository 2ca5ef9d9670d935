//! The operator: restocks what is sold out, where the catalogue says so, and leaves the rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::drive::Market;

/// How often the operator walks past the shelves.
const ROUND: Duration = Duration::from_millis(250);
/// Times that one product is restocked.
const TIMES_MAX: u32 = 2;

/// What the operator did.
#[derive(Debug, Default)]
pub struct Restocking {
    /// Products restocked, counted each time.
    pub done: AtomicU64,
}

/// Restocks sold-out products while fewer than `until` commands are done.
///
/// # Errors
/// As [`super::drive`].
pub async fn restock(market: &Market, restocking: &Restocking, until: u64) -> anyhow::Result<()> {
    let mut left: Vec<(usize, i64, u32)> = market
        .products
        .iter()
        .enumerate()
        .filter_map(|(index, product)| product.restock.map(|quantity| (index, quantity, TIMES_MAX)))
        .collect();
    while market.tallies.done.load(Ordering::Relaxed) < until {
        for (product, quantity, times) in &mut left {
            if *times > 0 && restock_one(market, *product, *quantity).await? {
                *times -= 1;
                restocking.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(ROUND).await;
    }
    Ok(())
}

/// Whether the product was sold out, and now is not.
async fn restock_one(market: &Market, product: usize, quantity: i64) -> anyhow::Result<bool> {
    let product_id = market.id(product)?;
    if market.ledger().stock(product_id) > 0 {
        return Ok(false);
    }
    let lock = market.restocking(product).context("a restocked product has a lock")?;
    let _alone = lock.write().await;
    // Looked at again: a cancellation may have brought some back meanwhile.
    if market.ledger().stock(product_id) > 0 {
        return Ok(false);
    }
    market.definite(|| market.shop.set_stock(product_id, quantity)).await?;
    market.ledger().restocked(product_id, quantity);
    Ok(true)
}
