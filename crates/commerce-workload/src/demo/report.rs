//! The table at the end, and the same as JSON.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::DemoSettings;
use super::check::Line;
use super::prober::Latencies;
use crate::machine::{commit, machine};

/// Differing products that are named.
const DIFFERENCES_SHOWN: usize = 20;

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The traffic, without the time for which it was held back.
    pub(super) traffic: Duration,
    /// From the last command, or the last fault, until everything had its effect.
    pub(super) settling: Duration,
    /// From the first command until everything had its effect.
    pub(super) total: Duration,
}

/// Everything that a run has shown.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) settings: Arc<DemoSettings>,
    pub(super) lines: Vec<Line>,
    pub(super) differences: Vec<String>,
    pub(super) views_unknown: i64,
    pub(super) orders_sold_out: u64,
    pub(super) restocked: u64,
    pub(super) retries: u64,
    pub(super) kills: u64,
    pub(super) outages: u64,
    pub(super) duplicates: u64,
    pub(super) commands: u64,
    pub(super) records: i64,
    pub(super) times: Times,
    pub(super) latencies: Latencies,
}

impl Report {
    /// Whether every line is exact and nothing is ambiguous.
    pub(super) fn exact(&self) -> bool {
        self.lines.iter().all(Line::exact) && self.differences.is_empty() && self.views_unknown == 0
    }

    fn commands_per_second(&self) -> f64 {
        per_second(self.commands, self.times.traffic)
    }

    fn events_per_second(&self) -> f64 {
        per_second(u64::try_from(self.records).unwrap_or(0), self.times.total)
    }

    /// What stands below the lines: name and text.
    fn facts(&self) -> [(&'static str, String); 6] {
        let (calm, all) = (&self.latencies.calm, &self.latencies.all);
        let count = |number: u64| grouped(i64::try_from(number).unwrap_or(i64::MAX));
        let visible = |times: &Histogram<u64>| {
            format!(
                "p50 {:.1} ms, p99 {:.1} ms, {} probes",
                millis(times, 0.5),
                millis(times, 0.99),
                times.len()
            )
        };
        let times = [self.times.traffic, self.times.total, self.times.settling];
        let [traffic, total, settling] = times.map(|time| time.as_secs_f64());
        [
            (
                "commands",
                format!("{:.0}/s, {} in {traffic:.1} s", self.commands_per_second(), count(self.commands)),
            ),
            (
                "events",
                format!(
                    "{:.0}/s, {} records in {total:.1} s, settled {settling:.1} s after the last of them",
                    self.events_per_second(),
                    grouped(self.records)
                ),
            ),
            ("commit → visible", format!("{} while nothing was broken", visible(calm))),
            ("", format!("{} over all", visible(all))),
            (
                "faults",
                format!(
                    "{} kill -9, {} Kafka outages, {} duplicates",
                    self.kills,
                    self.outages,
                    count(self.duplicates)
                ),
            ),
            (
                "traffic",
                format!(
                    "{} orders refused as sold out, {} restocks, {} requests sent again",
                    count(self.orders_sold_out),
                    self.restocked,
                    self.retries
                ),
            ),
        ]
    }

    fn json(&self) -> Value {
        let settings = &self.settings;
        let used = json!({
            "seed": settings.seed,
            "commands": settings.commands,
            "buyers": settings.buyers,
            "products": settings.products,
            "duplicates": self.duplicates,
            "kills": self.kills,
            "outages": self.outages,
        });
        let figure = |name: String, unit: &str, value: f64| json!({"name": name, "unit": unit, "median": value, "min": value, "max": value, "runs": [value], "settings": used});
        let (calm, all) = (&self.latencies.calm, &self.latencies.all);
        let mut figures = vec![
            figure("demo.commands".to_owned(), "commands/s", self.commands_per_second()),
            figure("demo.events".to_owned(), "events/s", self.events_per_second()),
            figure("demo.settling".to_owned(), "s", self.times.settling.as_secs_f64()),
            figure("demo.visible.p50".to_owned(), "ms", millis(calm, 0.5)),
            figure("demo.visible.p99".to_owned(), "ms", millis(calm, 0.99)),
            figure("demo.visible_with_faults.p50".to_owned(), "ms", millis(all, 0.5)),
            figure("demo.visible_with_faults.p99".to_owned(), "ms", millis(all, 0.99)),
        ];
        for line in &self.lines {
            let name = line.name.replace([' ', '-'], "_");
            for (side, value) in [("lost", line.lost), ("double", line.double)] {
                figures.push(figure(format!("demo.{name}.{side}"), "count", float(value)));
            }
        }
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "name": line.name, "expected": line.expected, "counted": line.counted,
                    "lost": line.lost, "double": line.double, "exact": line.exact(),
                })
            })
            .collect();
        json!({
            "machine": machine(),
            "commit": commit(),
            "exact": self.exact(),
            "lines": lines,
            "figures": figures,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{:<22}{:>18}{:>18}{:>10}{:>10}", "", "expected", "counted", "lost", "double")?;
        for line in &self.lines {
            let verdict = if line.exact() { "exact" } else { "WRONG" };
            let [expected, counted, lost, double] =
                [line.expected, line.counted, line.lost, line.double].map(grouped);
            writeln!(
                formatter,
                "{:<22}{expected:>18}{counted:>18}{lost:>10}{double:>10}  {verdict}",
                line.name
            )?;
        }
        if self.views_unknown > 0 {
            writeln!(
                formatter,
                "{} views may or may not be recorded: the views are AMBIGUOUS",
                self.views_unknown
            )?;
        }
        writeln!(formatter)?;
        for (name, value) in self.facts() {
            writeln!(formatter, "{name:<22}{value}")?;
        }
        for difference in self.differences.iter().take(DIFFERENCES_SHOWN) {
            writeln!(formatter, "{difference}")?;
        }
        match self.differences.len().checked_sub(DIFFERENCES_SHOWN) {
            Some(more @ 1..) => writeln!(formatter, "and {more} more differences"),
            _ => Ok(()),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    float(i64::try_from(count).unwrap_or(i64::MAX)) / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The nearest float; figures have no need of more than its 53 bits.
fn float(number: i64) -> f64 {
    number.to_string().parse().unwrap_or(f64::NAN)
}

fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    let micros = histogram.value_at_quantile(quantile);
    Duration::from_micros(micros).as_secs_f64() * 1_000.0
}

/// Digits in groups of three.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> DemoSettings {
        DemoSettings {
            seed: 1,
            commands: 100_000,
            buyers: 300,
            products: 2_000,
            keep: false,
            json: None,
            binary: "commerce".into(),
            database_url: String::new(),
            kafka_brokers: String::new(),
            redis_url: String::new(),
            broker_stop: None,
            broker_start: None,
            run_dir: "run".into(),
            duplicates: 1_000,
            poison: 25,
            relay_kills: 2,
            streamer_kills: 2,
        }
    }

    fn report(lost: i64, views_unknown: i64) -> Report {
        let mut latencies = Latencies::new().unwrap();
        latencies.calm.record(4_000).unwrap();
        latencies.all.record(4_000).unwrap();
        latencies.all.record(900_000).unwrap();
        Report {
            settings: Arc::new(settings()),
            lines: vec![Line {
                name: "likes",
                expected: 1_234_567,
                counted: 1_234_567 - lost,
                lost,
                double: 0,
            }],
            differences: Vec::new(),
            views_unknown,
            orders_sold_out: 3,
            restocked: 2,
            retries: 0,
            kills: 4,
            outages: 1,
            duplicates: 1_000,
            commands: 100_000,
            records: 95_000,
            times: Times {
                traffic: Duration::from_secs(40),
                settling: Duration::from_secs(2),
                total: Duration::from_secs(50),
            },
            latencies,
        }
    }

    #[test]
    fn one_lost_or_one_unknown_makes_the_run_inexact() {
        assert!(report(0, 0).exact());
        assert!(!report(1, 0).exact());
        assert!(!report(0, 1).exact());
        assert!(report(0, 0).to_string().contains("1,234,567"));
        assert!(report(1, 0).to_string().contains("WRONG"));
        assert!(report(0, 1).to_string().contains("AMBIGUOUS"));
    }

    #[test]
    fn every_line_is_a_figure_of_its_own() {
        let json = serde_json::to_value(report(2, 0)).unwrap();
        let figures = json["figures"].as_array().unwrap();
        let lost = figures.iter().find(|figure| figure["name"] == "demo.likes.lost").unwrap();
        assert_eq!((&lost["median"], &lost["settings"]["seed"]), (&json!(2.0), &json!(1)));
        assert_eq!(json["exact"], json!(false));
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
