//! How living relays share the shards. Pure.
//!
//! Invariants: the quotas of all members that see the same add up to all shards; they differ by one at most; and nobody
//! hands a shard back for a difference of one, so that sharing comes to rest.

use std::cmp::Reverse;

use crate::SHARDS;

/// A living relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) owner: String,
    /// Shards that it owns.
    pub(crate) shards: usize,
}

/// What a relay sees of the others and of the shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The living relays, in any order.
    pub(crate) members: Vec<Member>,
    /// Shards that nobody owns.
    pub(crate) claimable: usize,
}

/// What a relay is to do about its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its share is right.
    Rest,
    /// It has too few shards, and none is free yet.
    Wait,
    /// It may claim so many free shards, and must take up again those that it owns and does not work on.
    Claim(usize),
    /// It has so many shards too many.
    HandBack(usize),
}

impl View {
    /// How many shards a member is entitled to: those that own most get the shards that cannot be shared evenly.
    fn quota(&self, member: &Member) -> usize {
        let order = |member: &Member| (Reverse(member.shards), member.owner.clone());
        let before = self.members.iter().filter(|other| order(other) < order(member)).count();
        let (shards, members) = (usize::from(SHARDS), self.members.len());
        shards / members + usize::from(before < shards % members)
    }
}

/// What `owner`, which works on `held` shards, is to do next.
pub(crate) fn decide_step(view: &View, owner: &str, held: usize) -> Step {
    let Some(own) = view.members.iter().find(|member| member.owner == owner) else { return Step::Rest };
    let quota = view.quota(own);
    if own.shards > held {
        Step::Claim(quota.saturating_sub(own.shards).min(view.claimable))
    } else if held > quota {
        Step::HandBack(held - quota)
    } else if held < quota && view.claimable > 0 {
        Step::Claim((quota - held).min(view.claimable))
    } else if held < quota {
        Step::Wait
    } else {
        Step::Rest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn view(shards: &[usize]) -> View {
        let members: Vec<Member> = shards
            .iter()
            .enumerate()
            .map(|(number, shards)| Member { owner: number.to_string(), shards: *shards })
            .collect();
        let owned: usize = shards.iter().sum();
        View { members, claimable: usize::from(SHARDS).saturating_sub(owned) }
    }

    #[test]
    fn a_relay_alone_claims_everything_and_rests() {
        assert_eq!(decide_step(&view(&[0]), "0", 0), Step::Claim(16));
        assert_eq!(decide_step(&view(&[16]), "0", 16), Step::Rest);
    }

    #[test]
    fn a_joining_relay_waits_for_what_the_others_hand_back() {
        let seen = view(&[16, 0]);
        assert_eq!(decide_step(&seen, "0", 16), Step::HandBack(8));
        assert_eq!(decide_step(&seen, "1", 0), Step::Wait);
        assert_eq!(decide_step(&view(&[8, 0]), "1", 0), Step::Claim(8));
    }

    #[test]
    fn a_difference_of_one_moves_nothing() {
        for shares in [[6, 5, 5], [5, 6, 5], [5, 5, 6]] {
            for (number, held) in shares.into_iter().enumerate() {
                assert_eq!(decide_step(&view(&shares), &number.to_string(), held), Step::Rest, "{shares:?}");
            }
        }
    }

    #[test]
    fn with_more_relays_than_shards_some_own_nothing() {
        let mut shares = vec![1; 16];
        shares.extend([0, 0]);
        assert_eq!(decide_step(&view(&shares), "17", 0), Step::Rest);
    }

    #[test]
    fn shards_of_ones_former_self_are_taken_up_again() {
        assert_eq!(decide_step(&view(&[16]), "0", 0), Step::Claim(0));
        assert_eq!(decide_step(&view(&[3]), "0", 2), Step::Claim(13));
    }

    #[test]
    fn a_relay_that_is_not_counted_among_the_living_moves_nothing() {
        assert_eq!(decide_step(&view(&[5]), "stranger", 7), Step::Rest);
    }

    /// Relays that look, and act later on what they saw.
    #[derive(Debug, Default)]
    struct World {
        /// Owner of each shard; `None` is free.
        owners: Vec<Option<String>>,
        /// What each living relay saw last.
        seen: BTreeMap<String, View>,
        /// Dead relays whose leases and life have not run out.
        dead: Vec<String>,
        next: usize,
    }

    #[derive(Debug, Clone)]
    enum Event {
        Join,
        Leave(prop::sample::Index),
        Crash(prop::sample::Index),
        /// Everything of the dead runs out.
        Expire,
        Look(prop::sample::Index),
        Act(prop::sample::Index),
    }

    fn event() -> impl Strategy<Value = Event> {
        let any = any::<prop::sample::Index>;
        prop_oneof![
            2 => Just(Event::Join),
            1 => any().prop_map(Event::Leave),
            1 => any().prop_map(Event::Crash),
            1 => Just(Event::Expire),
            6 => any().prop_map(Event::Look),
            6 => any().prop_map(Event::Act),
        ]
    }

    impl World {
        fn pick(&self, index: prop::sample::Index) -> Option<String> {
            (!self.seen.is_empty())
                .then(|| self.seen.keys().nth(index.index(self.seen.len())).unwrap().clone())
        }

        fn count(&self, owner: Option<&str>) -> usize {
            self.owners.iter().filter(|found| found.as_deref() == owner).count()
        }

        fn look(&self) -> View {
            let members = self.seen.keys().chain(&self.dead);
            let members = members
                .map(|owner| Member { owner: owner.clone(), shards: self.count(Some(owner)) })
                .collect();
            View { members, claimable: self.count(None) }
        }

        fn give(&mut self, from: Option<&str>, to: Option<&str>, most: usize) {
            let found = self.owners.iter_mut().filter(|owner| owner.as_deref() == from);
            found.take(most).for_each(|owner| *owner = to.map(str::to_owned));
        }

        /// Answers whether it changed anything.
        fn act(&mut self, owner: &str) -> bool {
            let held = self.count(Some(owner));
            match decide_step(&self.seen[owner], owner, held) {
                Step::Rest | Step::Wait => false,
                Step::Claim(most) => {
                    self.give(None, Some(owner), most);
                    self.count(Some(owner)) > held
                }
                Step::HandBack(most) => {
                    self.give(Some(owner), None, most);
                    true
                }
            }
        }

        fn take(&mut self, event: &Event) {
            match event {
                Event::Join => {
                    self.next += 1;
                    self.seen.insert(format!("relay-{}", self.next), View::default());
                }
                Event::Leave(index) => {
                    if let Some(owner) = self.pick(*index) {
                        self.seen.remove(&owner);
                        self.give(Some(&owner), None, usize::MAX);
                    }
                }
                Event::Crash(index) => {
                    if let Some(owner) = self.pick(*index) {
                        self.seen.remove(&owner);
                        self.dead.push(owner);
                    }
                }
                Event::Expire => {
                    for owner in std::mem::take(&mut self.dead) {
                        self.give(Some(&owner), None, usize::MAX);
                    }
                }
                Event::Look(index) => {
                    if let Some(owner) = self.pick(*index) {
                        let view = self.look();
                        self.seen.insert(owner, view);
                    }
                }
                Event::Act(index) => {
                    if let Some(owner) = self.pick(*index) {
                        self.act(&owner);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_happened_the_living_come_to_rest_with_even_shares(
            events in prop::collection::vec(event(), 0..200), order in any::<u64>()
        ) {
            let mut world = World { owners: vec![None; usize::from(SHARDS)], ..World::default() };
            for event in &events {
                world.take(event);
            }
            world.take(&Event::Join);
            world.take(&Event::Expire);
            let mut quiet = 0;
            for round in 0..20_u64 {
                // Each round every relay looks and acts once, in a new order.
                let mut relays: Vec<String> = world.seen.keys().cloned().collect();
                let turn = usize::try_from(order.rotate_left(u32::try_from(round * 7).unwrap()) % 64).unwrap();
                let length = relays.len();
                relays.rotate_left(turn % length);
                let mut changed = false;
                for owner in relays {
                    let view = world.look();
                    world.seen.insert(owner.clone(), view);
                    changed |= world.act(&owner);
                }
                quiet = if changed { 0 } else { quiet + 1 };
            }
            prop_assert!(quiet >= 15, "it came to rest only {quiet} rounds ago");
            prop_assert_eq!(world.count(None), 0, "a shard is owned by nobody");
            let shares: Vec<usize> = world.seen.keys().map(|owner| world.count(Some(owner))).collect();
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{shares:?}");
        }

        #[test]
        fn the_quotas_add_up_to_all_shards(shares in prop::collection::vec(0_usize..17, 1..40)) {
            let seen = view(&shares);
            let quotas: usize = seen.members.iter().map(|member| seen.quota(member)).sum();
            prop_assert_eq!(quotas, usize::from(SHARDS));
        }
    }
}
