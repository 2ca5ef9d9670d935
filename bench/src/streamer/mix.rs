//! What a shop's events are like, and what they add up to.

use std::collections::BTreeMap;

use commerce_events::{
    CatalogEvent, Event, OrderEvent, OrderLineV1, OrderV1, ProductLikeV1, ProductViewV1, ViewEvent,
};
use commerce_workload::traffic::Popularity;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Products, chosen by Zipf's law.
pub(super) const PRODUCTS: usize = 10_000;
/// Every run has the same events.
const SEED: u64 = 7;
/// Buyers.
const USERS: i64 = 5_000;
/// Most lines of an order.
const LINES_MAX: i64 = 4;

/// What the events of one product add up to: likes, units sold, their amount, views.
pub(super) type Counts = [i64; 4];

/// A product's counts by its id.
pub(super) type Ledger = BTreeMap<i64, Counts>;

/// Makes events, and keeps the ledger of those that were handed out.
pub(super) struct Mix {
    random: StdRng,
    popularity: Popularity,
    ledger: Ledger,
    orders: i64,
    /// The newest order, unless it was taken back.
    order: Option<OrderV1>,
}

impl Mix {
    pub(super) fn new() -> Self {
        Self {
            random: StdRng::seed_from_u64(SEED),
            popularity: Popularity::new(SEED, PRODUCTS),
            ledger: Ledger::new(),
            orders: 0,
            order: None,
        }
    }

    /// Of 100 events 60 are views, 20 likes, 5 likes taken back, 13 orders of one to four lines, 2 orders taken back.
    pub(super) fn event(&mut self) -> Event {
        let event = match self.random.random_range(0..100) {
            0..60 => self.view(),
            60..80 => self.like(),
            80..85 => self.unlike(),
            85..98 => self.order(),
            _ => self.cancellation(),
        };
        note(&mut self.ledger, &event);
        event
    }

    /// A like that counts.
    pub(super) fn counted_like(&mut self) -> Event {
        let event = self.like();
        note(&mut self.ledger, &event);
        event
    }

    /// A view that is not in the ledger.
    pub(super) fn view(&mut self) -> Event {
        let (product_id, user_id) = (self.product(), Some(self.user()));
        Event::View(ViewEvent::Viewed(ProductViewV1 { product_id, user_id }))
    }

    /// True so many times among a thousand.
    pub(super) fn happens(&mut self, per_mille: u32) -> bool {
        self.random.random_range(0..1_000) < per_mille
    }

    /// A number from 1 to `max`.
    pub(super) fn up_to(&mut self, max: u64) -> u64 {
        self.random.random_range(1..=max)
    }

    pub(super) fn into_ledger(self) -> Ledger {
        self.ledger
    }

    fn like(&mut self) -> Event {
        Event::Catalog(CatalogEvent::Liked(ProductLikeV1 {
            product_id: self.product(),
            user_id: self.user(),
        }))
    }

    /// Nobody takes back a like that was never given.
    fn unlike(&mut self) -> Event {
        let like = ProductLikeV1 { product_id: self.product(), user_id: self.user() };
        let likes = self.ledger.get(&like.product_id).map_or(0, |counts| counts[0]);
        Event::Catalog(if likes > 0 { CatalogEvent::Unliked(like) } else { CatalogEvent::Liked(like) })
    }

    fn order(&mut self) -> Event {
        self.orders += 1;
        let lines = self.random.random_range(1..=LINES_MAX);
        let lines = (0..lines)
            .map(|_| OrderLineV1 {
                product_id: self.product(),
                quantity: self.random.random_range(1..=3),
                unit_price: self.random.random_range(100..=50_000),
            })
            .collect();
        let order = OrderV1 { order_id: self.orders, user_id: Some(self.user()), lines };
        self.order = Some(order.clone());
        Event::Order(OrderEvent::Completed(order))
    }

    fn cancellation(&mut self) -> Event {
        match self.order.take() {
            Some(order) => Event::Order(OrderEvent::Cancelled(order)),
            None => self.order(),
        }
    }

    fn product(&mut self) -> i64 {
        let index = self.popularity.choose(&mut self.random);
        i64::try_from(index).unwrap_or_default() + 1
    }

    fn user(&mut self) -> i64 {
        self.random.random_range(1..=USERS)
    }
}

/// Written apart from the projection, which it checks.
fn note(ledger: &mut Ledger, event: &Event) {
    let mut add = |product: i64, place: usize, units: i64| {
        ledger.entry(product).or_default()[place] += units;
    };
    match event {
        Event::Catalog(CatalogEvent::Liked(like)) => add(like.product_id, 0, 1),
        Event::Catalog(CatalogEvent::Unliked(like)) => add(like.product_id, 0, -1),
        Event::View(ViewEvent::Viewed(view)) => add(view.product_id, 3, 1),
        Event::Order(order) => {
            let (sign, order) = match order {
                OrderEvent::Completed(order) => (1, order),
                OrderEvent::Cancelled(order) => (-1, order),
            };
            for line in &order.lines {
                add(line.product_id, 1, sign * line.quantity);
                add(line.product_id, 2, sign * line.quantity * line.unit_price);
            }
        }
        // The mix has none.
        Event::Stock(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::Mix;

    #[test]
    fn every_run_has_the_same_events_and_none_takes_back_what_was_not_given() {
        let [mut one, mut other] = [Mix::new(), Mix::new()];
        for _ in 0..50_000 {
            assert_eq!(one.event(), other.event());
        }
        let ledger = one.into_ledger();
        assert!(ledger.values().flatten().all(|count| *count >= 0));
        let sums = ledger.values().fold([0; 4], |sums, counts| [0, 1, 2, 3].map(|at| sums[at] + counts[at]));
        assert!(sums.iter().all(|sum| *sum > 5_000), "{sums:?}");
    }
}
