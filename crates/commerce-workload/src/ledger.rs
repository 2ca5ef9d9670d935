//! What buyers were told, added up: the truth that the pipeline's counts are compared with.
//!
//! Invariant: it is fed by acknowledged responses only, never by the database or the topics that are being checked.
//! A response that was not definite is resolved by asking again before it comes here; only a view cannot be asked
//! again, and is kept apart. Pure: no I/O, no clock.

use std::collections::{BTreeMap, HashSet};

/// Units of one product in an acknowledged order, at the price that the buyer paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoughtLine {
    /// The product.
    pub product_id: i64,
    /// Units.
    pub quantity: i64,
    /// Minor units for one.
    pub unit_price: i64,
}

/// What the server said about the record of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewAnswer {
    /// It is committed.
    Recorded,
    /// It is not, and will not be.
    NotRecorded,
    /// It may be.
    Unknown,
}

/// What one product must show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Buyers who like it.
    pub likes: i64,
    /// Units of completed orders.
    pub sales_units: i64,
    /// Minor units of completed orders.
    pub sales_amount: i64,
    /// Views acknowledged as recorded.
    pub views: i64,
    /// Views of which nobody knows: the count may be higher by up to so many.
    pub views_unknown: i64,
    /// Units left.
    pub stock: i64,
}

impl Expected {
    /// Whether buyers must see it as sold out.
    #[must_use]
    pub const fn sold_out(&self) -> bool {
        self.stock == 0
    }
}

/// The ledger of one run.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    products: BTreeMap<i64, Expected>,
    /// (buyer, product)
    likes: HashSet<(i64, i64)>,
}

impl Ledger {
    /// Nothing acknowledged yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A product was created with `stock` units.
    pub fn created(&mut self, product_id: i64, stock: i64) {
        self.entry(product_id).stock = stock;
    }

    /// The buyer likes the product, whether or not he did before.
    pub fn liked(&mut self, buyer_id: i64, product_id: i64) {
        if self.likes.insert((buyer_id, product_id)) {
            self.entry(product_id).likes += 1;
        }
    }

    /// The buyer does not like the product, whether or not he did before.
    pub fn unliked(&mut self, buyer_id: i64, product_id: i64) {
        if self.likes.remove(&(buyer_id, product_id)) {
            self.entry(product_id).likes -= 1;
        }
    }

    /// An order was completed.
    pub fn ordered(&mut self, lines: &[BoughtLine]) {
        self.sold(lines, 1);
    }

    /// A completed order was taken back, once.
    pub fn cancelled(&mut self, lines: &[BoughtLine]) {
        self.sold(lines, -1);
    }

    /// A product's page was served.
    pub fn viewed(&mut self, product_id: i64, answer: ViewAnswer) {
        let entry = self.entry(product_id);
        match answer {
            ViewAnswer::Recorded => entry.views += 1,
            ViewAnswer::NotRecorded => {}
            ViewAnswer::Unknown => entry.views_unknown += 1,
        }
    }

    /// The stock was set, while no order or cancellation of the product was under way.
    pub fn restocked(&mut self, product_id: i64, quantity: i64) {
        self.entry(product_id).stock = quantity;
    }

    /// Units left of a product.
    #[must_use]
    pub fn stock(&self, product_id: i64) -> i64 {
        self.products.get(&product_id).map_or(0, |entry| entry.stock)
    }

    /// What every product must show, by product.
    #[must_use]
    pub const fn products(&self) -> &BTreeMap<i64, Expected> {
        &self.products
    }

    fn sold(&mut self, lines: &[BoughtLine], sign: i64) {
        for line in lines {
            let entry = self.entry(line.product_id);
            let units = sign * line.quantity;
            entry.sales_units += units;
            entry.sales_amount += units * line.unit_price;
            entry.stock -= units;
        }
    }

    fn entry(&mut self, product_id: i64) -> &mut Expected {
        self.products.entry(product_id).or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Act {
        Like(i64, i64),
        Unlike(i64, i64),
        Order(Vec<(i64, i64)>),
        /// The n-th order so far, unless it is cancelled already.
        Cancel(usize),
        View(i64, ViewAnswer),
        Restock(i64, i64),
    }

    const PRODUCTS: i64 = 4;
    const STOCK: i64 = 1_000;

    fn price(product_id: i64) -> i64 {
        product_id * 100 + 7
    }

    fn bought(lines: &[(i64, i64)]) -> Vec<BoughtLine> {
        lines
            .iter()
            .map(|&(product_id, quantity)| BoughtLine { product_id, quantity, unit_price: price(product_id) })
            .collect()
    }

    fn act() -> impl Strategy<Value = Act> {
        let product = 1..=PRODUCTS;
        let buyer = 1..4_i64;
        let answer =
            prop_oneof![Just(ViewAnswer::Recorded), Just(ViewAnswer::NotRecorded), Just(ViewAnswer::Unknown)];
        prop_oneof![
            (buyer.clone(), product.clone()).prop_map(|(buyer, product)| Act::Like(buyer, product)),
            (buyer, product.clone()).prop_map(|(buyer, product)| Act::Unlike(buyer, product)),
            prop::collection::vec((product.clone(), 1..5_i64), 1..5).prop_map(Act::Order),
            (0..20_usize).prop_map(Act::Cancel),
            (product.clone(), answer).prop_map(|(product, answer)| Act::View(product, answer)),
            (product, 1..50_i64).prop_map(|(product, quantity)| Act::Restock(product, quantity)),
        ]
    }

    /// Recounts one product from the whole history, the slow way.
    fn recount(history: &[Act], product: i64) -> Expected {
        let mut expected = Expected { stock: STOCK, ..Expected::default() };
        let mut orders: Vec<Option<&Vec<(i64, i64)>>> = Vec::new();
        let sum = |lines: &[(i64, i64)]| -> i64 {
            lines.iter().filter(|(id, _)| *id == product).map(|(_, quantity)| quantity).sum()
        };
        for act in history {
            match act {
                Act::View(id, ViewAnswer::Recorded) if *id == product => expected.views += 1,
                Act::View(id, ViewAnswer::Unknown) if *id == product => expected.views_unknown += 1,
                Act::Order(lines) => {
                    orders.push(Some(lines));
                    expected.stock -= sum(lines);
                }
                Act::Cancel(index) => {
                    if let Some(lines) = orders.get_mut(*index).and_then(Option::take) {
                        expected.stock += sum(lines);
                    }
                }
                Act::Restock(id, quantity) if *id == product => expected.stock = *quantity,
                _ => {}
            }
        }
        expected.sales_units = orders.into_iter().flatten().map(|lines| sum(lines)).sum();
        expected.sales_amount = expected.sales_units * price(product);
        expected.likes = (1..4)
            .filter(|buyer| {
                let last = history.iter().rev().find_map(|act| match act {
                    Act::Like(by, id) if (by, *id) == (buyer, product) => Some(true),
                    Act::Unlike(by, id) if (by, *id) == (buyer, product) => Some(false),
                    _ => None,
                });
                last == Some(true)
            })
            .map(|_| 1)
            .sum();
        expected
    }

    proptest! {
        #[test]
        fn the_ledger_agrees_with_a_recount_of_the_whole_history(history in prop::collection::vec(act(), 0..80)) {
            let mut ledger = Ledger::new();
            (1..=PRODUCTS).for_each(|id| ledger.created(id, STOCK));
            let mut orders: Vec<Option<Vec<BoughtLine>>> = Vec::new();
            for act in &history {
                match act {
                    Act::Like(buyer, product) => ledger.liked(*buyer, *product),
                    Act::Unlike(buyer, product) => ledger.unliked(*buyer, *product),
                    Act::Order(lines) => {
                        ledger.ordered(&bought(lines));
                        orders.push(Some(bought(lines)));
                    }
                    Act::Cancel(index) => {
                        if let Some(lines) = orders.get_mut(*index).and_then(Option::take) {
                            ledger.cancelled(&lines);
                        }
                    }
                    Act::View(product, answer) => ledger.viewed(*product, *answer),
                    Act::Restock(product, quantity) => ledger.restocked(*product, *quantity),
                }
            }
            for product in 1..=PRODUCTS {
                prop_assert_eq!(ledger.products()[&product], recount(&history, product), "product {}", product);
            }
        }
    }

    #[test]
    fn a_like_that_is_repeated_counts_once_and_can_be_taken_back_once() {
        let mut ledger = Ledger::new();
        ledger.liked(1, 9);
        ledger.liked(1, 9);
        ledger.liked(2, 9);
        assert_eq!(ledger.products()[&9].likes, 2);
        ledger.unliked(1, 9);
        ledger.unliked(1, 9);
        assert_eq!(ledger.products()[&9].likes, 1);
    }

    #[test]
    fn a_product_is_sold_out_when_its_last_unit_is_bought_and_not_after_a_cancellation() {
        let mut ledger = Ledger::new();
        ledger.created(9, 3);
        let lines = [BoughtLine { product_id: 9, quantity: 3, unit_price: 5 }];
        ledger.ordered(&lines);
        assert!(ledger.products()[&9].sold_out());
        ledger.cancelled(&lines);
        assert!(!ledger.products()[&9].sold_out());
        assert_eq!((ledger.stock(9), ledger.products()[&9].sales_amount), (3, 0));
    }
}
