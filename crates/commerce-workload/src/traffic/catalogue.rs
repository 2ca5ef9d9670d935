//! The products of a run: prices, first stocks, and which of them run out.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::popularity::Popularity;
use super::{TrafficSettings, seed, whole};

/// Scarce products stand at these ranks: popular enough to sell out, not so many that most orders are refused.
const SCARCE_RANKS: std::ops::Range<usize> = 4..150;
/// Every so many of them.
const SCARCE_EVERY: usize = 3;
/// A scarce product's first stock, as a part of what buyers will ask for.
const SCARCE_STOCK: f64 = 0.3;
/// Stock of the others: never runs out.
const PLENTY: i64 = 10_000_000;
/// Largest price, minor units.
const PRICE_MAX: i64 = 500_000;

/// A product to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedProduct {
    /// The merchant's code.
    pub code: String,
    /// What buyers read.
    pub name: String,
    /// Minor units.
    pub price: i64,
    /// First stock.
    pub stock: i64,
    /// What the operator sets the stock to when it is sold out; `None` leaves it so.
    pub restock: Option<i64>,
}

impl PlannedProduct {
    /// A product that only the prober touches.
    #[must_use]
    pub fn probed(number: usize) -> Self {
        let name = format!("Probe {number}");
        Self { code: format!("PROBE-{number}"), name, price: 1, stock: PLENTY, restock: None }
    }
}

/// The products by index; a pure function of its arguments.
#[must_use]
pub fn catalogue(settings: &TrafficSettings, popularity: &Popularity) -> Vec<PlannedProduct> {
    let mut random = StdRng::seed_from_u64(seed(settings.seed, "catalogue", 0));
    let mut products: Vec<PlannedProduct> = (0..settings.products)
        .map(|index| PlannedProduct {
            code: format!("DEMO-{index:05}"),
            name: format!("Demo product {index}"),
            price: random.random_range(1..=PRICE_MAX),
            stock: PLENTY,
            restock: None,
        })
        .collect();
    for (turn, rank) in SCARCE_RANKS.step_by(SCARCE_EVERY).enumerate() {
        let demand = settings.demand(popularity, rank);
        let stock = i64::try_from(whole(demand * SCARCE_STOCK)).unwrap_or(PLENTY).max(1);
        if rank >= settings.products {
            break;
        }
        if let Some(product) = products.get_mut(popularity.at_rank(rank)) {
            product.stock = stock;
            product.restock = (turn % 2 == 0).then_some((stock / 2).max(1));
        }
    }
    products
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SETTINGS: TrafficSettings =
        TrafficSettings { seed: 5, commands: 100_000, buyers: 300, products: 2_000 };

    #[test]
    fn a_few_dozen_products_are_scarce_and_half_of_them_are_restocked() {
        let products = catalogue(&SETTINGS, &Popularity::new(SETTINGS.seed, SETTINGS.products));
        let scarce: Vec<&PlannedProduct> =
            products.iter().filter(|product| product.stock != PLENTY).collect();
        assert_eq!(scarce.len(), 49);
        assert_eq!(scarce.iter().filter(|product| product.restock.is_some()).count(), 25);
        assert!(scarce.iter().all(|product| (1..2_000).contains(&product.stock)));
        assert!(
            products
                .iter()
                .filter(|product| product.stock == PLENTY)
                .all(|product| product.restock.is_none())
        );
    }

    #[test]
    fn codes_are_distinct_and_prices_positive() {
        let products = catalogue(&SETTINGS, &Popularity::new(SETTINGS.seed, SETTINGS.products));
        let codes: HashSet<&str> = products.iter().map(|product| product.code.as_str()).collect();
        assert_eq!(codes.len(), 2_000);
        assert!(products.iter().all(|product| (1..=PRICE_MAX).contains(&product.price)));
    }

    #[test]
    fn fewer_products_than_scarce_ranks_are_no_trouble() {
        let settings = TrafficSettings { products: 6, commands: 10, ..SETTINGS };
        assert_eq!(catalogue(&settings, &Popularity::new(5, 6)).len(), 6);
    }
}
