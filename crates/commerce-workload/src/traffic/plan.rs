//! What each buyer does, decided before the first request: a pure function of the seed.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::popularity::Popularity;
use super::seed;

/// Views, likes, unlikes, orders, cancellations of one hundred commands.
const MIX: [(Kind, u32); 5] =
    [(Kind::View, 70), (Kind::Like, 14), (Kind::Unlike, 6), (Kind::Order, 8), (Kind::Cancel, 2)];
/// Lines of an order: 1 to this many.
const LINES_MAX: usize = 5;
/// Units of a line, drawn from here: mostly one.
const QUANTITIES: [i64; 10] = [1, 1, 1, 1, 1, 1, 2, 2, 3, 5];
/// Mean of [`QUANTITIES`].
const QUANTITY_MEAN: f64 = 1.8;

/// How much traffic, and of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficSettings {
    /// Decides everything else.
    pub seed: u64,
    /// Commands of all buyers together.
    pub commands: u64,
    /// Buyers, numbered from 1.
    pub buyers: u64,
    /// Products, by index from 0.
    pub products: usize,
}

impl TrafficSettings {
    /// Units of a product at `rank` that buyers will ask for, roughly.
    #[must_use]
    pub(crate) fn demand(&self, popularity: &Popularity, rank: usize) -> f64 {
        let (_, of_hundred) = MIX[3];
        let lines_mean = f64::from(u32::try_from(LINES_MAX + 1).unwrap_or(u32::MAX)) / 2.0;
        let commands = f64::from(u32::try_from(self.commands).unwrap_or(u32::MAX));
        commands * f64::from(of_hundred) / 100.0 * lines_mean * QUANTITY_MEAN * popularity.share(rank)
    }

    /// Commands of one buyer: an equal share, the rest goes to the first ones.
    fn commands_of(&self, buyer: u64) -> u64 {
        let buyers = self.buyers.max(1);
        self.commands / buyers + u64::from(buyer <= self.commands % buyers)
    }
}

/// Units of one product in a planned order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedLine {
    /// Product index.
    pub product: usize,
    /// Units.
    pub quantity: i64,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look at a product.
    View {
        /// Product index.
        product: usize,
    },
    /// Like a product, perhaps again.
    Like {
        /// Product index.
        product: usize,
    },
    /// Take a like back, perhaps one that never was.
    Unlike {
        /// Product index.
        product: usize,
    },
    /// Order; the products of the lines are distinct.
    Order {
        /// Number of the order among the buyer's planned orders, from 0.
        number: usize,
        /// One to five lines.
        lines: Vec<PlannedLine>,
    },
    /// Take an order back; each at most once.
    Cancel {
        /// Number of the order among the buyer's planned orders.
        number: usize,
        /// What the buyer looks at instead when the order was refused.
        instead: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    View,
    Like,
    Unlike,
    Order,
    Cancel,
}

/// The commands of one buyer in their order.
#[derive(Debug)]
pub struct BuyerPlan {
    random: StdRng,
    popularity: Arc<Popularity>,
    left: u64,
    liked: Vec<usize>,
    orders: usize,
    /// Orders not yet cancelled, with one of their products.
    standing: Vec<(usize, usize)>,
}

impl BuyerPlan {
    /// The plan of buyer number `buyer`, from 1.
    #[must_use]
    pub fn new(settings: &TrafficSettings, popularity: Arc<Popularity>, buyer: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed(settings.seed, "buyer", buyer)),
            popularity,
            left: settings.commands_of(buyer),
            liked: Vec::new(),
            orders: 0,
            standing: Vec::new(),
        }
    }

    fn kind(&mut self) -> Kind {
        let mut point = self.random.random_range(0..100_u32);
        for (kind, share) in MIX {
            if point < share {
                return kind;
            }
            point -= share;
        }
        Kind::View
    }

    fn product(&mut self) -> usize {
        self.popularity.choose(&mut self.random)
    }

    fn like(&mut self) -> Step {
        let product = self.product();
        if !self.liked.contains(&product) {
            self.liked.push(product);
        }
        Step::Like { product }
    }

    fn unlike(&mut self) -> Step {
        if self.liked.is_empty() {
            return Step::Unlike { product: self.product() };
        }
        let index = self.random.random_range(0..self.liked.len());
        Step::Unlike { product: self.liked.swap_remove(index) }
    }

    fn order(&mut self) -> Step {
        let wanted = self.random.random_range(1..=LINES_MAX);
        let mut lines: Vec<PlannedLine> = Vec::with_capacity(wanted);
        for _ in 0..wanted {
            let product = self.product();
            let quantity = QUANTITIES[self.random.random_range(0..QUANTITIES.len())];
            if lines.iter().all(|line| line.product != product) {
                lines.push(PlannedLine { product, quantity });
            }
        }
        let number = self.orders;
        self.orders += 1;
        if let Some(first) = lines.first() {
            self.standing.push((number, first.product));
        }
        Step::Order { number, lines }
    }

    fn cancel(&mut self) -> Step {
        if self.standing.is_empty() {
            return Step::View { product: self.product() };
        }
        let index = self.random.random_range(0..self.standing.len());
        let (number, instead) = self.standing.swap_remove(index);
        Step::Cancel { number, instead }
    }
}

impl Iterator for BuyerPlan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.left = self.left.checked_sub(1)?;
        Some(match self.kind() {
            Kind::View => Step::View { product: self.product() },
            Kind::Like => self.like(),
            Kind::Unlike => self.unlike(),
            Kind::Order => self.order(),
            Kind::Cancel => self.cancel(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SETTINGS: TrafficSettings =
        TrafficSettings { seed: 11, commands: 40_007, buyers: 300, products: 2_000 };

    fn plan(settings: &TrafficSettings) -> Vec<Vec<Step>> {
        let popularity = Arc::new(Popularity::new(settings.seed, settings.products));
        (1..=settings.buyers)
            .map(|buyer| BuyerPlan::new(settings, Arc::clone(&popularity), buyer).collect())
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        assert_eq!(plan(&SETTINGS), plan(&SETTINGS));
        assert_ne!(plan(&SETTINGS), plan(&TrafficSettings { seed: 12, ..SETTINGS }));
    }

    #[test]
    fn all_commands_are_planned_and_spread_evenly() {
        let plans = plan(&SETTINGS);
        assert_eq!(plans.iter().map(Vec::len).sum::<usize>(), 40_007);
        let lengths: HashSet<usize> = plans.iter().map(Vec::len).collect();
        assert_eq!(lengths, HashSet::from([133, 134]));
    }

    #[test]
    fn the_mix_is_as_documented() {
        let plans = plan(&SETTINGS);
        let share = |wanted: fn(&Step) -> bool| {
            let count = plans.iter().flatten().filter(|step| wanted(step)).count();
            f64::from(u32::try_from(count).unwrap()) / 40_007.0
        };
        for (of, expected) in [
            (share(|step| matches!(step, Step::View { .. })), 0.70),
            (share(|step| matches!(step, Step::Like { .. })), 0.14),
            (share(|step| matches!(step, Step::Unlike { .. })), 0.06),
            (share(|step| matches!(step, Step::Order { .. })), 0.08),
            (share(|step| matches!(step, Step::Cancel { .. })), 0.02),
        ] {
            assert!((of - expected).abs() < 0.01, "{of} for {expected}");
        }
    }

    #[test]
    fn orders_have_one_to_five_lines_of_distinct_products_and_are_cancelled_at_most_once() {
        for steps in plan(&SETTINGS) {
            let mut placed = HashSet::new();
            let mut cancelled = HashSet::new();
            for step in steps {
                match step {
                    Step::Order { number, lines } => {
                        assert!((1..=5).contains(&lines.len()));
                        let products: HashSet<usize> = lines.iter().map(|line| line.product).collect();
                        assert_eq!(products.len(), lines.len());
                        assert!(
                            lines.iter().all(|line| line.product < 2_000 && (1..=5).contains(&line.quantity))
                        );
                        assert!(placed.insert(number));
                    }
                    Step::Cancel { number, .. } => {
                        assert!(placed.contains(&number));
                        assert!(cancelled.insert(number));
                    }
                    Step::View { .. } | Step::Like { .. } | Step::Unlike { .. } => {}
                }
            }
        }
    }

    #[test]
    fn the_demand_estimate_is_near_what_the_plan_asks_for() {
        let popularity = Popularity::new(SETTINGS.seed, SETTINGS.products);
        let product = popularity.at_rank(3);
        let asked: i64 = plan(&SETTINGS)
            .iter()
            .flatten()
            .filter_map(|step| if let Step::Order { lines, .. } = step { Some(lines) } else { None })
            .flatten()
            .filter(|line| line.product == product)
            .map(|line| line.quantity)
            .sum();
        let asked = f64::from(i32::try_from(asked).unwrap());
        let estimate = SETTINGS.demand(&popularity, 3);
        assert!(asked > 0.7 * estimate && asked < 1.3 * estimate, "{asked} for {estimate}");
    }
}
