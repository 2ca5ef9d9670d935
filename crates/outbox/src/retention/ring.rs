//! Arithmetic of the ring: which segment is filled when, and when it is due.

use std::time::Duration;

use crate::SEGMENTS;

const HOUR: i64 = 3_600;

/// Where a segment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// This hour's rows go into it.
    Filling,
    /// Its hour is over, but for a while transactions that began in it may still write.
    Settling,
    /// It can be truncated as soon as its rows are published.
    Due,
}

/// A segment's place in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) phase: Phase,
    /// End of the hour for which it was filled last, or is being filled: seconds of the epoch.
    pub(crate) hour_end: i64,
    /// Whether it was not emptied between the last two hours for which it was filled.
    pub(crate) came_round: bool,
}

/// The place of `segment` at the second `now`, when it was last known to be empty at `emptied_at`.
pub(crate) fn place(segment: i16, now: i64, emptied_at: i64, keep: Duration) -> Place {
    let segments = i64::from(SEGMENTS);
    let hour = now.div_euclid(HOUR);
    let hours_ago = (hour - i64::from(segment)).rem_euclid(segments);
    let hour_end = (hour - hours_ago + 1) * HOUR;
    let keep = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    let phase = if hours_ago == 0 {
        Phase::Filling
    } else if now < hour_end.saturating_add(keep) {
        Phase::Settling
    } else {
        Phase::Due
    };
    Place { phase, hour_end, came_round: emptied_at < hour_end - segments * HOUR }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: Duration = Duration::from_secs(300);
    /// Hours whose first segment is 0.
    const START: i64 = 400_000 * HOUR;

    fn phase(segment: i16, after_start: i64) -> Phase {
        place(segment, START + after_start, START, KEEP).phase
    }

    #[test]
    fn a_segment_is_filled_then_settles_then_is_due_until_its_turn_comes_again() {
        let cases = [
            (0, Phase::Filling),
            (HOUR - 1, Phase::Filling),
            (HOUR, Phase::Settling),
            (HOUR + 299, Phase::Settling),
            (HOUR + 300, Phase::Due),
            (4 * HOUR - 1, Phase::Due),
            (4 * HOUR, Phase::Filling),
        ];
        for (after_start, expected) in cases {
            assert_eq!(phase(0, after_start), expected, "{after_start} s");
        }
    }

    #[test]
    fn a_segment_that_was_not_emptied_since_its_last_hour_has_come_round() {
        let filled_until = START + HOUR;
        let now = START + 4 * HOUR + 10;
        for (emptied_at, expected) in
            [(START - 1, true), (filled_until - 1, true), (filled_until, false), (now, false)]
        {
            assert_eq!(place(0, now, emptied_at, KEEP).came_round, expected, "{emptied_at}");
        }
    }

    proptest! {
        #[test]
        fn one_segment_is_filled_at_any_time_and_it_is_the_one_of_the_column_default(now in 0_i64..1 << 40) {
            let filling: Vec<i16> =
                (0..SEGMENTS).filter(|segment| place(*segment, now, now, KEEP).phase == Phase::Filling).collect();
            prop_assert_eq!(filling, vec![i16::try_from(now / 3_600 % 4).unwrap()]);
        }

        #[test]
        fn nothing_is_due_before_its_hour_and_what_is_kept_beyond_it_are_over(now in 0_i64..1 << 40, segment in 0_i16..4) {
            let place = place(segment, now, now, KEEP);
            prop_assert_eq!(place.phase == Phase::Due, place.hour_end + 300 <= now);
            prop_assert!(place.hour_end > now - 3 * HOUR, "the last hour of {}", segment);
        }
    }
}
