//! Which fault comes when: spread over the traffic, a pure function of the settings.

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of the relay, then a new one.
    KillRelay,
    /// `kill -9` of the streamer, then a new one.
    KillStreamer,
    /// Kafka away for a few seconds.
    BrokerOutage,
    /// So many records of the topics again.
    Duplicates(usize),
    /// Poison records from number `from`, so many.
    Poison { from: usize, count: usize },
}

/// How much of what goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amounts {
    pub(super) relay_kills: usize,
    pub(super) streamer_kills: usize,
    pub(super) broker_outages: usize,
    pub(super) duplicates: usize,
    pub(super) poison: usize,
}

/// The share of the commands that is done before the first fault, and before the last.
const FIRST: f64 = 0.08;
const LAST: f64 = 0.86;

/// Faults with the share of commands after which they come, in that order.
pub(super) fn schedule(amounts: &Amounts) -> Vec<(f64, Fault)> {
    let rounds = amounts.relay_kills.max(amounts.streamer_kills).max(amounts.broker_outages).max(2);
    let mut faults = Vec::new();
    let mut poisoned = 0;
    // Poison and duplicates come in every round, so that they meet the other faults in every order.
    for round in 0..rounds {
        if round < amounts.relay_kills {
            faults.push(Fault::KillRelay);
        }
        let poison = part(amounts.poison, round, rounds);
        if poison > 0 {
            faults.push(Fault::Poison { from: poisoned, count: poison });
            poisoned += poison;
        }
        if round < amounts.streamer_kills {
            faults.push(Fault::KillStreamer);
        }
        let duplicates = part(amounts.duplicates, round, rounds);
        if duplicates > 0 {
            faults.push(Fault::Duplicates(duplicates));
        }
        // Early, so that kills meet a backlog and traffic goes on after it.
        if round < amounts.broker_outages {
            faults.push(Fault::BrokerOutage);
        }
    }
    let last = u32::try_from(faults.len().saturating_sub(1).max(1)).unwrap_or(u32::MAX);
    (0_u32..)
        .zip(faults)
        .map(|(place, fault)| (FIRST + (LAST - FIRST) * f64::from(place) / f64::from(last), fault))
        .collect()
}

/// The share of `total` that falls on one of several rounds; the shares add up to it.
fn part(total: usize, round: usize, rounds: usize) -> usize {
    total * (round + 1) / rounds - total * round / rounds
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEMO: Amounts =
        Amounts { relay_kills: 2, streamer_kills: 2, broker_outages: 1, duplicates: 1_000, poison: 25 };

    #[test]
    fn the_demo_has_every_fault_in_order_and_in_full() {
        let faults = schedule(&DEMO);
        let count = |wanted: Fault| faults.iter().filter(|(_, fault)| *fault == wanted).count();
        assert_eq!(count(Fault::KillRelay), 2);
        assert_eq!(count(Fault::KillStreamer), 2);
        assert_eq!(count(Fault::BrokerOutage), 1);
        assert!(faults.is_sorted_by(|(left, _), (right, _)| left < right));
        assert!(faults.iter().all(|(at, _)| (FIRST..=LAST).contains(at)));
    }

    proptest! {
        #[test]
        fn whatever_the_amounts_all_of_it_is_scheduled_once(
            relay_kills in 0..5_usize,
            streamer_kills in 0..5_usize,
            broker_outages in 0..3_usize,
            duplicates in 0..5_000_usize,
            poison in 0..100_usize,
        ) {
            let faults =
                schedule(&Amounts { relay_kills, streamer_kills, broker_outages, duplicates, poison });
            let mut sums = [0_usize; 5];
            for (_, fault) in faults {
                match fault {
                    Fault::KillRelay => sums[0] += 1,
                    Fault::KillStreamer => sums[1] += 1,
                    Fault::BrokerOutage => sums[2] += 1,
                    Fault::Duplicates(count) => sums[3] += count,
                    Fault::Poison { from, count } => {
                        prop_assert_eq!(from, sums[4]);
                        sums[4] += count;
                    }
                }
            }
            prop_assert_eq!(sums, [relay_kills, streamer_kills, broker_outages, duplicates, poison]);
        }
    }
}
