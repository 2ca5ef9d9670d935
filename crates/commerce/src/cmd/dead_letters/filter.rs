//! The conditions of the command line.

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use inbox::dead_letter::{self, LetterFilter, LetterStatus};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::config::Config;

/// Which letters; conditions of different kinds must all hold.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArguments {
    /// These letters
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    /// From this topic, with or without the prefix; may be repeated
    #[arg(long)]
    topic: Vec<String>,
    /// Of this consumer group, with or without the prefix; may be repeated
    #[arg(long)]
    group: Vec<String>,
    /// Of this event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Set aside for this reason, for example malformed
    #[arg(long, value_name = "REASON")]
    rejected_for: Option<String>,
    /// Of this cause, as `group` shows it
    #[arg(long)]
    fingerprint: Option<String>,
    /// With exactly this key
    #[arg(long, conflicts_with = "key_base64")]
    key: Option<String>,
    /// With exactly this key, in base64
    #[arg(long, value_name = "BASE64")]
    key_base64: Option<String>,
    /// Set aside then or later: 2026-01-31T12:00:00Z, or so long ago: 90m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Time>,
    /// Set aside before: as --since
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Time>,
}

/// In which states.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// In these states: new, published, blocked, released, redriven, discarded; `open` is the first two, `all` is any.
    /// Unless given: open, and of letters that are named by ID the blocked ones too
    #[arg(long, value_delimiter = ',')]
    status: Vec<String>,
}

/// A moment, or so long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    At(DateTime<Utc>),
    Ago(Duration),
}

fn parse_time(text: &str) -> Result<Time, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Time::At(time.to_utc()));
    }
    humantime::parse_duration(text)
        .map(Time::Ago)
        .map_err(|_| "neither a time as 2026-01-31T12:00:00Z nor a duration as 90m".to_owned())
}

impl Time {
    fn resolve(self, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
        match self {
            Self::At(time) => Ok(time),
            Self::Ago(age) => {
                let age = chrono::Duration::from_std(age).ok();
                age.and_then(|age| now.checked_sub_signed(age)).context("so long ago is before all time")
            }
        }
    }
}

impl StatusArguments {
    /// The states that were asked for; none if none were.
    pub(super) fn statuses(&self) -> anyhow::Result<Vec<LetterStatus>> {
        let mut statuses = Vec::new();
        for name in &self.status {
            match name.as_str() {
                "open" => statuses.extend(LetterStatus::OPEN),
                "all" => statuses.extend(LetterStatus::ALL),
                name => statuses.push(name.parse().context("--status")?),
            }
        }
        Ok(statuses)
    }
}

impl FilterArguments {
    /// The filter; durations are counted back from the database's clock, by which letters are dated.
    pub(super) async fn filter(
        &self,
        config: &Config,
        connection: &mut PgConnection,
        statuses: Vec<LetterStatus>,
    ) -> anyhow::Result<LetterFilter> {
        self.filter_at(dead_letter::clock(connection).await?, config, statuses)
    }

    /// The filter as it is said at `now`. Without `statuses` it is about open letters, and about named ones in any state in
    /// which they wait for somebody.
    ///
    /// # Errors
    /// A key that is no base64, a time before all times.
    pub(super) fn filter_at(
        &self,
        now: DateTime<Utc>,
        config: &Config,
        statuses: Vec<LetterStatus>,
    ) -> anyhow::Result<LetterFilter> {
        let statuses = match (statuses.is_empty(), self.ids.is_empty()) {
            (false, _) => statuses,
            (true, false) => LetterStatus::WAITING.to_vec(),
            (true, true) => LetterStatus::OPEN.to_vec(),
        };
        let moment = |time: Option<Time>| time.map(|time| time.resolve(now)).transpose();
        Ok(LetterFilter {
            ids: self.ids.clone(),
            groups: full_names(config, &self.group),
            topics: full_names(config, &self.topic),
            event_type: self.event_type.clone(),
            reason: self.rejected_for.clone(),
            fingerprint: self.fingerprint.clone(),
            key: self.key()?,
            since: moment(self.since).context("--since")?,
            until: moment(self.until).context("--until")?,
            statuses,
        })
    }

    fn key(&self) -> anyhow::Result<Option<Vec<u8>>> {
        use base64::Engine as _;
        if let Some(encoded) = &self.key_base64 {
            return Ok(Some(
                base64::engine::general_purpose::STANDARD.decode(encoded).context("--key-base64")?,
            ));
        }
        Ok(self.key.as_ref().map(|key| key.clone().into_bytes()))
    }
}

/// Refuses to act on everything unless that was said.
pub(super) fn check_scope(filter: &LetterFilter, all: bool) -> anyhow::Result<()> {
    if filter.means_everything() && !all {
        bail!("no condition is given: name letters, or say --all");
    }
    Ok(())
}

/// A name as it was given, and with the prefix: lists show full names, people say short ones.
fn full_names(config: &Config, names: &[String]) -> Vec<String> {
    names.iter().flat_map(|name| [name.clone(), config.kafka.topic(name)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_an_age() -> anyhow::Result<()> {
        let now = DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z")?.to_utc();
        for (text, expected) in [
            ("2026-01-01T09:00:00+09:00", "2026-01-01T00:00:00Z"),
            ("90m", "2026-01-31T10:30:00Z"),
            ("1day", "2026-01-30T12:00:00Z"),
        ] {
            let time = parse_time(text).map_err(anyhow::Error::msg)?.resolve(now)?;
            assert_eq!(time, DateTime::parse_from_rfc3339(expected)?.to_utc(), "{text}");
        }
        assert!(parse_time("yesterday").is_err());
        let age = parse_time("999999999years").ok();
        assert!(age.is_none_or(|age| age.resolve(now).is_err()));
        Ok(())
    }
}
