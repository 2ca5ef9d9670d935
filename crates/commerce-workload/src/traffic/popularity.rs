//! Which product a buyer looks at: a few are popular, most are not (Zipf's law).

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::seed;

/// Exponent of the law: the n-th most popular product is chosen n times less often than the first.
const EXPONENT: f64 = 1.0;

/// The popularity of each product.
#[derive(Debug, Clone)]
pub struct Popularity {
    /// Cumulated share by rank; the last is 1.
    shares: Vec<f64>,
    /// Product index by rank: ids say nothing about popularity.
    products: Vec<usize>,
}

impl Popularity {
    /// The popularity of `products` products; a pure function of its arguments.
    #[must_use]
    pub fn new(run_seed: u64, products: usize) -> Self {
        let mut total = 0.0;
        let mut shares = Vec::with_capacity(products);
        let mut rank = 0.0_f64;
        for _ in 0..products {
            rank += 1.0;
            total += rank.powf(EXPONENT).recip();
            shares.push(total);
        }
        for share in &mut shares {
            *share /= total;
        }
        let mut order: Vec<usize> = (0..products).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed(run_seed, "popularity", 0)));
        Self { shares, products: order }
    }

    /// Chooses a product index.
    #[must_use]
    pub fn choose(&self, random: &mut StdRng) -> usize {
        let point: f64 = random.random_range(0.0..1.0);
        let rank = self.shares.partition_point(|share| *share <= point);
        self.at_rank(rank)
    }

    /// The product index at a rank from 0; the last product for a rank beyond.
    #[must_use]
    pub fn at_rank(&self, rank: usize) -> usize {
        self.products.get(rank).or(self.products.last()).copied().unwrap_or(0)
    }

    /// The share of all choices that falls on a rank from 0.
    #[must_use]
    pub fn share(&self, rank: usize) -> f64 {
        let end = self.shares.get(rank).copied().unwrap_or(1.0);
        let start = rank.checked_sub(1).and_then(|before| self.shares.get(before)).copied().unwrap_or(0.0);
        end - start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICES: u32 = 200_000;

    #[test]
    fn choices_follow_the_law_at_every_order_of_magnitude() {
        let popularity = Popularity::new(7, 2_000);
        let mut random = StdRng::seed_from_u64(1);
        let mut counts = vec![0_u32; 2_000];
        for _ in 0..CHOICES {
            counts[popularity.choose(&mut random)] += 1;
        }
        for rank in [0, 1, 9, 99] {
            let counted = f64::from(counts[popularity.at_rank(rank)]);
            let expected = popularity.share(rank) * f64::from(CHOICES);
            assert!(
                (counted - expected).abs() < 6.0 * expected.sqrt(),
                "rank {rank}: {counted} for {expected}"
            );
        }
        let first = popularity.share(0);
        assert!((popularity.share(9) - first / 10.0).abs() < 1e-9);
        let unpopular: u32 = (1_000..2_000).map(|rank| counts[popularity.at_rank(rank)]).sum();
        assert!(unpopular > 0 && unpopular < CHOICES / 5);
    }

    #[test]
    fn every_product_has_one_rank() {
        let popularity = Popularity::new(3, 500);
        let mut seen: Vec<usize> = (0..500).map(|rank| popularity.at_rank(rank)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        let total: f64 = (0..500).map(|rank| popularity.share(rank)).sum();
        assert!((total - 1.0).abs() < 1e-9);
    }
}
