//! What one transaction does, drawn before it begins. Pure.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// Keys on which writers serialise.
pub(crate) const KEYS: usize = 120;
/// The first of the keys that few want: those who hold their locks for long take these, or the traffic would stand still.
const COLD_KEYS: usize = 90;
/// How often somebody else wants one of them.
const COLD_SHARE: f64 = 0.01;
/// How steep the popularity of keys is: the first key gets about a fifth of all changes.
const ZIPF_EXPONENT: f64 = 1.1;

/// Chooses keys by popularity.
#[derive(Debug)]
pub(crate) struct Popularity {
    /// Cumulated weights.
    bounds: Vec<f64>,
}

impl Popularity {
    pub(crate) fn new() -> Self {
        let mut total = 0.0;
        let weights = (1..=u32::try_from(COLD_KEYS).unwrap_or(u32::MAX))
            .map(|rank| f64::from(rank).powf(-ZIPF_EXPONENT));
        let bounds = weights
            .map(|weight| {
                total += weight;
                total
            })
            .collect();
        Self { bounds }
    }

    fn choose(&self, random: &mut StdRng) -> usize {
        if random.random_bool(COLD_SHARE) {
            return random.random_range(COLD_KEYS..KEYS);
        }
        let total = self.bounds.last().copied().unwrap_or_default();
        let at = random.random_range(0.0..total);
        self.bounds.partition_point(|bound| *bound <= at)
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Commit,
    Rollback,
    /// Prepared, left alone for this long, and then resolved.
    Prepare {
        hold: Duration,
        commits: bool,
    },
}

/// What one transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// Writes to a table without a lock first, so that its id is older than its locks by this time.
    pub(crate) writes_first: Option<Duration>,
    /// Begins with the same changes in a savepoint that is rolled back.
    pub(crate) tries_in_vain: bool,
    /// Ascending, so that writers never wait in a circle; with the number of changes of each.
    pub(crate) changes: Vec<(usize, usize)>,
    /// Time between the last append and the end.
    pub(crate) hold: Duration,
    pub(crate) ending: Ending,
}

impl Script {
    pub(crate) fn draw(random: &mut StdRng, popularity: &Popularity, may_prepare: bool) -> Self {
        let millis =
            |random: &mut StdRng, longest: u64| Duration::from_millis(random.random_range(0..=longest));
        let writes_first = random.random_bool(0.5).then(|| {
            let longest = if random.random_bool(0.03) { 300 } else { 4 };
            millis(random, longest)
        });
        let ending = match random.random_range(0..100) {
            0..8 => Ending::Rollback,
            8..10 if may_prepare => {
                let longest = if random.random_bool(0.2) { 1_500 } else { 60 };
                Ending::Prepare { hold: millis(random, longest), commits: random.random_bool(0.7) }
            }
            _ => Ending::Commit,
        };
        let is_long = random.random_bool(0.002);
        let hold = if is_long { millis(random, 3_000) } else { Duration::ZERO };
        let is_cold = is_long || matches!(ending, Ending::Prepare { .. });
        Self {
            writes_first,
            tries_in_vain: random.random_bool(0.15),
            changes: draw_changes(random, popularity, is_cold),
            hold,
            ending,
        }
    }
}

fn draw_changes(random: &mut StdRng, popularity: &Popularity, is_cold: bool) -> Vec<(usize, usize)> {
    let keys = if random.random_bool(0.2) { random.random_range(2..=4) } else { 1 };
    let mut chosen: Vec<usize> = (0..keys)
        .map(|_| if is_cold { random.random_range(COLD_KEYS..KEYS) } else { popularity.choose(random) })
        .collect();
    chosen.sort_unstable();
    chosen.dedup();
    let many = if random.random_bool(0.01) { 200 } else { 2 };
    chosen.into_iter().map(|key| (key, random.random_range(1..=many))).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_kind_of_transaction_is_drawn_and_keys_ascend() {
        let (popularity, mut random) = (Popularity::new(), StdRng::seed_from_u64(1));
        let scripts: Vec<Script> = (0..5_000).map(|_| Script::draw(&mut random, &popularity, true)).collect();
        let count = |what: fn(&Script) -> bool| scripts.iter().filter(|script| what(script)).count();
        assert!(count(|script| script.writes_first.is_some()) > 2_000);
        assert!(count(|script| script.tries_in_vain) > 500);
        assert!(count(|script| script.ending == Ending::Rollback) > 200);
        assert!(count(|script| matches!(script.ending, Ending::Prepare { commits: true, .. })) > 30);
        assert!(count(|script| matches!(script.ending, Ending::Prepare { commits: false, .. })) > 10);
        assert!(count(|script| script.hold > Duration::from_secs(1)) > 0);
        assert!(count(|script| script.changes.len() > 2) > 200);
        for script in &scripts {
            assert!(script.changes.windows(2).all(|pair| pair[0].0 < pair[1].0));
            assert!(script.changes.iter().all(|(key, changes)| *key < KEYS && *changes > 0));
        }
    }

    #[test]
    fn without_prepared_transactions_none_is_drawn() {
        let (popularity, mut random) = (Popularity::new(), StdRng::seed_from_u64(1));
        let mut endings = (0..5_000).map(|_| Script::draw(&mut random, &popularity, false).ending);
        assert!(endings.all(|ending| !matches!(ending, Ending::Prepare { .. })));
    }

    #[test]
    fn few_keys_get_most_of_the_changes() {
        let (popularity, mut random) = (Popularity::new(), StdRng::seed_from_u64(1));
        let mut counts = [0; KEYS];
        for _ in 0..10_000 {
            counts[popularity.choose(&mut random)] += 1;
        }
        assert!(counts[0] > 1_500 && counts[..10].iter().sum::<i32>() > 5_000, "{counts:?}");
        assert!(counts[COLD_KEYS..].iter().sum::<i32>() > 50);
    }
}
