//! Members of the group, as far as they are more than their board.

use std::collections::{BTreeMap, BTreeSet};

use kafka_client::Start;

use super::PARTITIONS;
use super::work::Batch;
use crate::engine::board::{Board, Ticket};
use crate::engine::flood::Flood;

/// What the poll thread knows of a partition.
pub(super) struct Lane {
    pub(super) generation: u64,
    pub(super) next: i64,
    pub(super) is_outstanding: bool,
    /// Dead letters in a row before `next`, since reading began.
    pub(super) in_a_row: u32,
}

impl Lane {
    pub(super) fn new(Start { offset, generation, .. }: &Start) -> Self {
        Self { generation: *generation, next: *offset, is_outstanding: false, in_a_row: 0 }
    }
}

pub(super) struct Member {
    pub(super) board: Board<Batch>,
    pub(super) lanes: BTreeMap<usize, Lane>,
    pub(super) work: Vec<(Ticket, Batch)>,
    pub(super) aborted: BTreeSet<Ticket>,
    /// Partitions that it lost and was not told about yet.
    pub(super) losses: Vec<usize>,
    pub(super) floods: [Option<Flood>; PARTITIONS],
    /// Halted partitions that it asks about again.
    pub(super) asked_again: BTreeSet<usize>,
}

impl Member {
    pub(super) fn new() -> Self {
        Self {
            board: Board::new(),
            lanes: BTreeMap::new(),
            work: Vec::new(),
            aborted: BTreeSet::new(),
            losses: Vec::new(),
            floods: [None; PARTITIONS],
            asked_again: BTreeSet::new(),
        }
    }

    /// The partition is not its own any more.
    pub(super) fn forget(&mut self, partition: usize) {
        self.lanes.remove(&partition);
        self.floods[partition] = None;
        self.asked_again.remove(&partition);
    }
}
