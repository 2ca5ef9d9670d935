//! What the verifier found, for people and machines.

use std::fmt::{self, Formatter};

use serde::Serialize;

use super::books::Check;
use super::compare::{Difference, Totals};
use super::scan::TopicSummary;

/// Dead letters of one topic and reason: their events are counted nowhere until they are redriven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterCount {
    /// The consumer group.
    pub group: String,
    /// Without prefix.
    pub topic: String,
    /// The reason's slug.
    pub reason: String,
    /// How many.
    pub records: i64,
}

/// The verdict, and what it rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The pipeline has settled, every count is that of its source, and the books balance.
    pub exact: bool,
    /// What has not had its effect yet; products are not compared then.
    pub unsettled: Vec<String>,
    /// Events arrived during the check: a difference may be one of them.
    pub moved: bool,
    /// Products compared.
    pub products: u64,
    /// Sums by the sources.
    pub expected: Totals,
    /// Sums of what buyers see.
    pub found: Totals,
    /// The topics that are sources.
    pub topics: Vec<TopicSummary>,
    /// Events that are set aside.
    pub dead_letters: Vec<DeadLetterCount>,
    /// All differences.
    pub differences_total: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Equations of the consumers' books (P8).
    pub checks: usize,
    /// Those that do not hold.
    pub broken: Vec<Check>,
    /// Time of the check, the wait included.
    pub seconds: f64,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for unsettled in &self.unsettled {
            writeln!(formatter, "not settled: {unsettled}")?;
        }
        if self.unsettled.is_empty() {
            self.write_counts(formatter)?;
        } else {
            writeln!(
                formatter,
                "products are not compared: wait for longer (--wait), or see why it stands still"
            )?;
        }
        self.write_dead_letters(formatter)?;
        writeln!(
            formatter,
            "books: {} of {} equations hold in one snapshot",
            self.checks - self.broken.len(),
            self.checks
        )?;
        for check in &self.broken {
            writeln!(formatter, "  BROKEN {}: {} and {}", check.what, check.left, check.right)?;
        }
        if self.moved {
            writeln!(formatter, "events arrived during the check: a difference may be one of them")?;
        }
        let verdict = if self.exact { "exact" } else { "NOT EXACT" };
        writeln!(formatter, "{verdict}, {:.1} s", self.seconds)
    }
}

impl VerifyReport {
    fn write_counts(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<24}{:>20}{:>20}",
            format!("{} products", self.products),
            "expected",
            "counted"
        )?;
        for (label, expected, found) in [
            ("likes", self.expected.likes, self.found.likes),
            ("units sold", self.expected.sales, self.found.sales),
            ("amount (minor units)", self.expected.amount, self.found.amount),
            ("views", self.expected.views, self.found.views),
            ("sold out after a sale", self.expected.sold_out, self.found.sold_out),
        ] {
            writeln!(formatter, "{label:<24}{expected:>20}{found:>20}")?;
        }
        for topic in &self.topics {
            writeln!(
                formatter,
                "{}: {} records, {} events, {} duplicates, {} dead letters, {} not events",
                topic.topic,
                topic.records,
                topic.events,
                topic.duplicates,
                topic.dead_letters,
                topic.not_events
            )?;
            if !topic.complete {
                let since = topic.since.map_or_else(|| "now".to_owned(), |time| time.to_rfc3339());
                writeln!(formatter, "  its log begins at {since}: what it says is a lower bound")?;
            }
        }
        if self.differences_total > 0 {
            writeln!(formatter, "{} differences", self.differences_total)?;
        }
        for difference in &self.differences {
            let say =
                |value: Option<i64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            let (expected, found) = (say(difference.expected), say(difference.found));
            writeln!(
                formatter,
                "  product {}: {} {expected} expected, {found} found",
                difference.product_id, difference.what
            )?;
        }
        let left = self.differences_total - u64::try_from(self.differences.len()).unwrap_or(0);
        if left > 0 {
            writeln!(formatter, "  and {left} more")?;
        }
        Ok(())
    }

    fn write_dead_letters(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for row in &self.dead_letters {
            let DeadLetterCount { group, topic, reason, records } = row;
            writeln!(
                formatter,
                "{records} dead letters of {group} on {topic} ({reason}): counted nowhere until redriven"
            )?;
        }
        Ok(())
    }
}
