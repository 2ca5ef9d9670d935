//! How often a simulation met what it must meet to prove anything.

/// Kinds of situations that are counted.
pub(super) const SITUATIONS: usize = 9;

/// See the module.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Met {
    pub(super) refused_positions: u64,
    pub(super) resumed_inside: u64,
    pub(super) ended_at_tick: u64,
    pub(super) for_some_shards: u64,
    pub(super) without_room: u64,
    pub(super) thawed_late: u64,
    pub(super) left_in_network: u64,
    pub(super) duplicates: u64,
    /// Stored changes, all keys.
    pub(super) changes: u64,
}

impl Met {
    pub(super) fn counts(&self) -> [(&'static str, u64); SITUATIONS] {
        [
            ("positions refused by their epoch", self.refused_positions),
            ("sessions begun inside a window", self.resumed_inside),
            ("windows ended at a tick", self.ended_at_tick),
            ("windows of some shards", self.for_some_shards),
            ("reads that found no room", self.without_room),
            ("relays thawed after their lease", self.thawed_late),
            ("records left in the network", self.left_in_network),
            ("duplicates", self.duplicates),
            ("changes", self.changes),
        ]
    }
}
