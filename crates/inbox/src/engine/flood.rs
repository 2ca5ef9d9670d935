//! Too many dead letters: more likely a broken consumer or producer than so many broken records. Pure.

use crate::settings::FloodLimits;

/// Dead letters of a partition, in the order of its offsets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flood {
    in_a_row: u32,
    records: u32,
    letters: u32,
}

impl Flood {
    /// Notes a record. Answers, in words for operators, when it was one dead letter too many.
    pub(crate) fn note(&mut self, is_dead_letter: bool, limits: FloodLimits) -> Option<String> {
        if self.records >= limits.window_records {
            *self = Self { in_a_row: self.in_a_row, ..Self::default() };
        }
        self.records += 1;
        if !is_dead_letter {
            self.in_a_row = 0;
            return None;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.letters += 1;
        if self.in_a_row == limits.in_a_row_max {
            return Some(format!("{} dead letters in a row", self.in_a_row));
        }
        (self.letters == limits.window_letters_max)
            .then(|| format!("{} dead letters among {} records", self.letters, self.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FloodLimits = FloodLimits { in_a_row_max: 3, window_records: 10, window_letters_max: 5 };

    /// Notes records, `x` a dead letter, until one is too many; answers how many were noted and why.
    fn noted(records: &str, limits: FloodLimits) -> (usize, Option<String>) {
        let mut flood = Flood::default();
        for (index, record) in records.bytes().enumerate() {
            if let Some(reason) = flood.note(record == b'x', limits) {
                return (index + 1, Some(reason));
            }
        }
        (records.len(), None)
    }

    #[test]
    fn too_many_in_a_row_or_too_large_a_share_is_a_flood() {
        assert_eq!(noted("..xx.xx.", LIMITS), (8, None));
        assert_eq!(noted("..xx.xxx", LIMITS), (8, Some("3 dead letters in a row".to_owned())));
        assert_eq!(noted("x.x.x.x.x.", LIMITS), (9, Some("5 dead letters among 9 records".to_owned())));
        assert_eq!(noted("x.x.x.x...x.x.x.x...", LIMITS), (20, None), "each ten records begin anew");
        assert_eq!(noted("........xxx", LIMITS).0, 11, "a row goes on over the tens");
    }

    #[test]
    fn a_limit_of_nothing_is_never_reached() {
        let off = FloodLimits { in_a_row_max: 0, window_records: 10, window_letters_max: 0 };
        assert_eq!(noted(&"x".repeat(100), off), (100, None));
    }
}
