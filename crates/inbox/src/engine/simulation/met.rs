//! How often a simulation met what it must meet to prove anything.

/// Kinds of situations that are counted.
pub(super) const SITUATIONS: usize = 10;

/// See the module.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Met {
    pub(super) halved: u64,
    pub(super) culprits: u64,
    pub(super) outside: u64,
    pub(super) had_committed: u64,
    pub(super) undone: u64,
    pub(super) fenced: u64,
    pub(super) lost_inside: u64,
    pub(super) halted: u64,
    pub(super) assigned_halted: u64,
    pub(super) kept_halted: u64,
}

impl Met {
    pub(super) fn counts(&self) -> [(&'static str, u64); SITUATIONS] {
        [
            ("refused parts that were halved", self.halved),
            ("culprits found", self.culprits),
            ("events found outside of what is remembered", self.outside),
            ("unanswered commits that had got through", self.had_committed),
            ("unanswered commits that had not", self.undone),
            ("workers fenced", self.fenced),
            ("batches lost with parts committed", self.lost_inside),
            ("partitions halted", self.halted),
            ("partitions assigned while halted", self.assigned_halted),
            ("workers that found their partition halted", self.kept_halted),
        ]
    }
}
