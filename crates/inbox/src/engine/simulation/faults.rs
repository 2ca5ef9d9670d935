//! What happens to members: time passes, partitions change hands, processes die.

use std::time::Duration;

use super::database::Fault;
use super::member::Member;
use super::{GRACE, MEMBERS, PARTITIONS, World};

impl World {
    pub(super) fn pass(&mut self) {
        self.now += Duration::from_millis(50 << self.dice.below(9));
        for member in 0..MEMBERS {
            let deadline = self.members[member].board.deadline();
            self.members[member].board.passed(self.now);
            if deadline.is_some_and(|deadline| deadline <= self.now)
                && self.members[member].board.deadline().is_some_and(|deadline| deadline <= self.now)
            {
                self.violated("a deadline was passed and nothing came of it".to_owned());
            }
            self.act(member);
        }
    }

    /// A partition changes hands in order.
    pub(super) fn revoke(&mut self) {
        let partition = self.dice.below(PARTITIONS);
        let Some(owner) = self.owners[partition].take() else { return };
        self.rebalances += 1;
        let to = self.dice.below(MEMBERS);
        self.moves.insert(self.rebalances, (partition, to));
        self.members[owner].forget(partition);
        let origins = std::slice::from_ref(&self.origins[partition]);
        self.members[owner].board.revoked(self.rebalances, origins, false, self.now + GRACE);
        self.act(owner);
    }

    /// A partition is taken from a member that does not know it yet.
    pub(super) fn lose(&mut self) {
        let partition = self.dice.below(PARTITIONS);
        let to = self.dice.below(MEMBERS);
        if let Some(owner) = self.owners[partition].filter(|owner| *owner != to) {
            self.members[owner].losses.push(partition);
            self.assign(partition, to);
        }
    }

    pub(super) fn tell_losses(&mut self, member: usize) {
        for partition in std::mem::take(&mut self.members[member].losses) {
            self.members[member].forget(partition);
            let origins = std::slice::from_ref(&self.origins[partition]);
            self.members[member].board.revoked(0, origins, true, self.now);
            self.act(member);
        }
    }

    /// An operator has a partition read again if it is halted.
    pub(super) fn resume(&mut self, partition: usize) {
        self.database.progress[partition].is_halted = false;
    }

    /// A member asks about its halted partitions.
    pub(super) fn tick(&mut self, member: usize) {
        for partition in std::mem::take(&mut self.members[member].asked_again) {
            self.begin(partition, member);
        }
    }

    /// Everything that a member knows is gone; a commit may still have got through.
    pub(super) fn crash(&mut self, member: usize) {
        let dead = std::mem::replace(&mut self.members[member], Member::new());
        for (_, mut batch) in dead.work {
            self.met.lost_inside += u64::from(batch.is_partly_committed);
            if self.dice.one_in(2) {
                self.attempt(&mut batch, Fault::Done);
            }
        }
        let owned: Vec<usize> =
            (0..PARTITIONS).filter(|partition| self.owners[*partition] == Some(member)).collect();
        for partition in owned {
            let to = self.dice.below(MEMBERS);
            self.assign(partition, to);
        }
        // What it was giving back is free, whether it answered or not.
        let free: Vec<(u64, (usize, usize))> = self
            .moves
            .iter()
            .filter(|(_, (partition, _))| self.owners[*partition].is_none())
            .map(|(rebalance, moved)| (*rebalance, *moved))
            .collect();
        for (rebalance, (partition, to)) in free {
            self.moves.remove(&rebalance);
            self.assign(partition, to);
        }
    }
}
