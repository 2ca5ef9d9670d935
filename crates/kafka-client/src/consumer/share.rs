//! How partitions share the memory of a consumer. Pure.
//!
//! Few partitions that fill large batches, one after the other, beat many that fill small ones at the same time: the cost of a
//! batch hardly grows with its records. So memory is given in the order in which partitions began to wait, a whole
//! batch's at a time. Each may always hold a small share beside that: one that has little to read never waits for memory, and
//! one that holds much, because its batch fails again and again, starves no other.

use super::ConsumerSettings;

/// Records that a partition may hold of a batch in any case. Also those that are taken before the next one has its turn.
pub(super) const SHARE_RECORDS: usize = 512;
/// Batches of such shares that have the bytes of a full one.
const SHARES_OF_A_BATCH: usize = 32;

/// How far a partition may fill its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Allowance {
    /// Whether a batch has reached it.
    pub(super) fn is_used_up(self, records: usize, bytes: usize) -> bool {
        records >= self.records || bytes >= self.bytes
    }
}

/// What is left for the partitions whose turn comes later.
#[derive(Debug)]
pub(super) struct Budget {
    full: Allowance,
    share: Allowance,
    left: usize,
}

impl Budget {
    /// `outstanding`: bytes of all batches that were handed over and are not done.
    pub(super) fn new(settings: &ConsumerSettings, outstanding: usize) -> Self {
        let bytes = settings.batch_bytes_max.min(settings.buffer_bytes_max);
        let full = Allowance { records: settings.batch_records_max, bytes };
        let share =
            Allowance { records: SHARE_RECORDS.min(full.records), bytes: (bytes / SHARES_OF_A_BATCH).max(1) };
        Self { full, share, left: settings.buffer_bytes_max.saturating_sub(outstanding) }
    }

    /// What the next partition may hold, which holds so much already.
    pub(super) fn allow(&self, records: usize, bytes: usize) -> Allowance {
        let is_granted = self.share.is_used_up(records, bytes) && self.left >= self.full.bytes;
        if is_granted { self.full } else { self.share }
    }

    /// The partition has had its turn and holds so much: with more than its share it is given all that a batch may have.
    pub(super) fn spend(&mut self, records: usize, bytes: usize) {
        let spent = if self.share.is_used_up(records, bytes) { self.full.bytes } else { bytes };
        self.left = self.left.saturating_sub(spent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ClientSettings;

    fn settings(batch: usize, buffer: usize) -> ConsumerSettings {
        let mut settings = ConsumerSettings::new(ClientSettings::new("b:1", "c"), "g", vec![]);
        (settings.batch_records_max, settings.batch_bytes_max, settings.buffer_bytes_max) =
            (10_000, batch, buffer);
        settings
    }

    /// Lets every partition fill as far as it may, a turn of records of ten bytes after the other; answers their bytes.
    fn fill(settings: &ConsumerSettings, outstanding: usize, partitions: usize) -> Vec<usize> {
        let mut records = vec![0_usize; partitions];
        loop {
            let before = records.clone();
            let mut budget = Budget::new(settings, outstanding);
            for records in &mut records {
                let allowance = budget.allow(*records, *records * 10);
                for _ in 0..SHARE_RECORDS {
                    if !allowance.is_used_up(*records, *records * 10) {
                        *records += 1;
                    }
                }
                budget.spend(*records, *records * 10);
            }
            if records == before {
                return records.into_iter().map(|records| records * 10).collect();
            }
        }
    }

    #[test]
    fn the_first_partitions_fill_whole_batches_and_all_have_their_share() {
        let share = SHARE_RECORDS * 10;
        let held = fill(&settings(64_000, 200_000), 0, 6);
        assert_eq!(held, [64_000, 64_000, 64_000, 2_000, 2_000, 2_000]);
        let held = fill(&settings(640_000, 200_000), 0, 3);
        assert_eq!(held, [100_000, share, share], "10,000 records are the limit of a batch");
    }

    #[test]
    fn what_is_outstanding_leaves_less_but_never_less_than_a_share() {
        let settings = settings(64_000, 200_000);
        assert_eq!(fill(&settings, 100_000, 3), [64_000, 2_000, 2_000]);
        for outstanding in [190_000, 200_000, 900_000] {
            assert_eq!(fill(&settings, outstanding, 3), [2_000; 3]);
        }
    }

    #[test]
    fn a_buffer_for_one_small_record_lets_one_record_through() {
        assert_eq!(fill(&settings(4, 4), 0, 2), [10, 10]);
    }
}
