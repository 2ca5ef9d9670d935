//! Alarms of a backlog that grows too old or too long: raised above a limit, cleared well below it, so that a backlog
//! at the limit does not flicker.

use std::fmt;
use std::time::Duration;

use crate::overview::Behind;

/// Limits of a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BacklogLimits {
    pub(crate) age_max: Duration,
    pub(crate) rows_max: u64,
}

/// Which limits are exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Alarm {
    pub(crate) is_old: bool,
    pub(crate) is_long: bool,
}

/// The alarm when `behind` was seen after `before`. An alarm is cleared at nine tenths of its limit.
pub(crate) fn decide_alarm(before: Alarm, behind: Behind, limits: BacklogLimits) -> Alarm {
    let BacklogLimits { age_max, rows_max } = limits;
    let age_limit = if before.is_old { age_max - age_max / 10 } else { age_max };
    let rows_limit = if before.is_long { rows_max - rows_max / 10 } else { rows_max };
    Alarm {
        is_old: behind.oldest_age.is_some_and(|age| age > age_limit),
        is_long: behind.rows.count > rows_limit,
    }
}

/// What an alarm says.
pub(crate) struct AlarmText(pub(crate) Alarm, pub(crate) Behind, pub(crate) BacklogLimits);

impl fmt::Display for AlarmText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(alarm, behind, limits) = self;
        if alarm.is_old {
            let age = behind.oldest_age.unwrap_or_default().as_secs();
            write!(formatter, "events wait for {age} s, {} s are allowed", limits.age_max.as_secs())?;
        }
        if alarm.is_old && alarm.is_long {
            formatter.write_str("; ")?;
        }
        if alarm.is_long {
            write!(formatter, "{} events wait, {} are allowed", behind.rows, limits.rows_max)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::Rows;

    const LIMITS: BacklogLimits = BacklogLimits { age_max: Duration::from_secs(100), rows_max: 1_000 };
    const QUIET: Alarm = Alarm { is_old: false, is_long: false };
    const LOUD: Alarm = Alarm { is_old: true, is_long: true };

    fn behind(seconds: u64, count: u64) -> Behind {
        let rows = Rows { count, is_estimate: false };
        Behind { rows, oldest_age: Some(Duration::from_secs(seconds)) }
    }

    #[test]
    fn an_alarm_is_raised_above_its_limit_and_cleared_at_nine_tenths_of_it() {
        let cases = [
            (QUIET, behind(100, 1_000), QUIET),
            (QUIET, behind(101, 1_000), Alarm { is_old: true, is_long: false }),
            (QUIET, behind(100, 1_001), Alarm { is_old: false, is_long: true }),
            (LOUD, behind(91, 901), LOUD),
            (LOUD, behind(90, 900), QUIET),
        ];
        for (before, seen, expected) in cases {
            assert_eq!(decide_alarm(before, seen, LIMITS), expected, "{before:?} {seen:?}");
        }
    }

    #[test]
    fn an_empty_backlog_has_no_age() {
        let rows = Rows { count: 0, is_estimate: false };
        assert_eq!(decide_alarm(LOUD, Behind { rows, oldest_age: None }, LIMITS), QUIET);
    }

    #[test]
    fn the_text_names_what_is_exceeded() {
        let text = |alarm| AlarmText(alarm, behind(150, 5_000), LIMITS).to_string();
        assert_eq!(
            text(LOUD),
            "events wait for 150 s, 100 s are allowed; 5000 events wait, 1000 are allowed"
        );
        assert_eq!(text(Alarm { is_old: false, is_long: true }), "5000 events wait, 1000 are allowed");
    }
}
