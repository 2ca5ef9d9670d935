//! Rankings: which hours one is made of, and what a place in it is worth.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};

use super::InvalidInput;

/// Days are those of Seoul: nine hours ahead, without summer time.
const SEOUL_SECONDS: i32 = 9 * 3_600;
/// Years in which events can be: the streamer refuses others.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2099;
const YEAR_DIGITS: usize = 4;
const DATE_DIGITS: usize = 8;

/// How long a ranking looks back.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Deserialize,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Period {
    /// One hour.
    Hourly,
    /// One day.
    Daily,
    /// The seven days that end with the date.
    Weekly,
    /// The thirty days that end with the date.
    Monthly,
}

impl Period {
    /// All of them, the shortest first.
    pub(crate) const ALL: [Self; 4] = [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly];

    /// The value in queries and labels.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    const fn days(self) -> i64 {
        match self {
            Self::Hourly | Self::Daily => 1,
            Self::Weekly => 7,
            Self::Monthly => 30,
        }
    }
}

/// The hours that a ranking is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Window {
    pub(crate) period: Period,
    /// Where the hours begin that are carried over; `from` when there are none.
    pub(crate) carried_from: DateTime<Utc>,
    pub(crate) from: DateTime<Utc>,
    /// The first hour that is not in it any more.
    pub(crate) to: DateTime<Utc>,
}

impl Window {
    /// The window of a day, or of one of its hours: the running one today, else the last one when none is named. What
    /// begins anew (a day, an hour) carries the one before it over, so that it does not begin empty.
    ///
    /// # Errors
    /// [`InvalidInput::Date`] for a day outside 2000 to today, an hour that has not begun, and an hour of anything but
    /// an hourly ranking.
    pub(crate) fn new(
        period: Period,
        date: Option<NaiveDate>,
        hour: Option<u32>,
        now: DateTime<Utc>,
    ) -> Result<Self, InvalidInput> {
        let now = now.with_timezone(&seoul());
        let today = now.date_naive();
        let date = date.unwrap_or(today);
        if date > today || !YEARS.contains(&chrono::Datelike::year(&date)) {
            return Err(InvalidInput::Date);
        }
        let midnight = start_of_day(date);
        if period == Period::Hourly {
            let hour = hour.unwrap_or(if date == today { now.hour() } else { 23 });
            if hour > 23 {
                return Err(InvalidInput::Date);
            }
            let from = midnight + TimeDelta::hours(i64::from(hour));
            if from > now {
                return Err(InvalidInput::Date);
            }
            let length = TimeDelta::hours(1);
            return Ok(Self { period, carried_from: from - length, from, to: from + length });
        }
        if hour.is_some() {
            return Err(InvalidInput::Date);
        }
        let to = midnight + TimeDelta::days(1);
        let from = to - TimeDelta::days(period.days());
        let carried_from = if period == Period::Daily { from - TimeDelta::days(1) } else { from };
        Ok(Self { period, carried_from, from, to })
    }

    /// Without what is carried over.
    pub(crate) fn alone(self) -> Self {
        Self { carried_from: self.from, ..self }
    }
}

/// A day as `yyyyMMdd`.
///
/// # Errors
/// [`InvalidInput::Date`] for anything else.
pub(crate) fn parse_date(text: &str) -> Result<NaiveDate, InvalidInput> {
    if text.len() != DATE_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidInput::Date);
    }
    let (year, rest) = text.split_at(YEAR_DIGITS);
    let (month, day) = rest.split_at(2);
    let number = |digits: &str| digits.parse::<u32>().map_err(|_| InvalidInput::Date);
    let year = year.parse().map_err(|_| InvalidInput::Date)?;
    NaiveDate::from_ymd_opt(year, number(month)?, number(day)?).ok_or(InvalidInput::Date)
}

/// The zone of days.
pub(crate) fn seoul() -> FixedOffset {
    FixedOffset::east_opt(SEOUL_SECONDS).expect("nine hours are less than a day")
}

fn start_of_day(date: NaiveDate) -> DateTime<Utc> {
    date.and_time(NaiveTime::MIN).and_utc() - TimeDelta::seconds(i64::from(SEOUL_SECONDS))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::{Period, Window, parse_date};
    use crate::domain::InvalidInput;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn window(period: Period, date: Option<&str>, hour: Option<u32>) -> Result<[String; 3], InvalidInput> {
        // 00:30 of the 10th in Seoul.
        let now = time("2026-03-09T15:30:00Z");
        let date = date.map(|date| parse_date(date).unwrap());
        let window = Window::new(period, date, hour, now)?;
        Ok([window.carried_from, window.from, window.to].map(|time| time.format("%m-%dT%H").to_string()))
    }

    #[test]
    fn days_are_those_of_seoul_and_carry_the_day_before_over() {
        for (period, date, hour, expected) in [
            (Period::Daily, None, None, ["03-08T15", "03-09T15", "03-10T15"]),
            (Period::Daily, Some("20260310"), None, ["03-08T15", "03-09T15", "03-10T15"]),
            (Period::Daily, Some("20260301"), None, ["02-27T15", "02-28T15", "03-01T15"]),
            (Period::Hourly, None, None, ["03-09T14", "03-09T15", "03-09T16"]),
            (Period::Hourly, Some("20260310"), Some(0), ["03-09T14", "03-09T15", "03-09T16"]),
            (Period::Hourly, Some("20260309"), None, ["03-09T13", "03-09T14", "03-09T15"]),
            (Period::Weekly, None, None, ["03-03T15", "03-03T15", "03-10T15"]),
            (Period::Monthly, None, None, ["02-08T15", "02-08T15", "03-10T15"]),
        ] {
            assert_eq!(window(period, date, hour).unwrap(), expected, "{period:?} {date:?} {hour:?}");
        }
    }

    #[test]
    fn what_has_not_begun_has_no_ranking() {
        for (period, date, hour) in [
            (Period::Daily, Some("20260311"), None),
            (Period::Weekly, Some("20991231"), None),
            (Period::Monthly, Some("19991231"), None),
            (Period::Hourly, Some("20260310"), Some(1)),
            (Period::Hourly, Some("20260309"), Some(24)),
            (Period::Hourly, Some("20260309"), Some(u32::MAX)),
            (Period::Daily, Some("20260309"), Some(1)),
        ] {
            assert_eq!(window(period, date, hour), Err(InvalidInput::Date), "{period:?} {date:?} {hour:?}");
        }
    }

    #[test]
    fn a_date_is_eight_digits_of_a_day_that_exists() {
        assert!(parse_date("20240229").is_ok());
        for text in ["", "2026031", "202603100", "20261301", "20260230", "2026-3-1", "+2026030", "２０２６"]
        {
            assert_eq!(parse_date(text), Err(InvalidInput::Date), "{text}");
        }
    }
}
