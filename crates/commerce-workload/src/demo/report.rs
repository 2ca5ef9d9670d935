//! The table at the end, and the same as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::DemoSettings;
use super::check::Line;
use super::prober::Latencies;

/// Everything that a run has shown.
#[derive(Debug, Clone)]
pub(super) struct Report {
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
    pub(super) traffic: Duration,
    pub(super) settling: Duration,
    pub(super) latencies: Latencies,
}

impl Report {
    /// Whether every line is exact and nothing is ambiguous.
    pub(super) fn exact(&self) -> bool {
        self.lines.iter().all(Line::exact) && self.differences.is_empty() && self.views_unknown == 0
    }

    fn commands_per_second(&self) -> f64 {
        per_second(self.commands, self.traffic)
    }

    fn events_per_second(&self) -> f64 {
        per_second(u64::try_from(self.records).unwrap_or(0), self.traffic + self.settling)
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{:<22}{:>18}{:>18}{:>10}{:>10}", "", "expected", "counted", "lost", "double")?;
        for line in &self.lines {
            let verdict = if line.exact() { "exact" } else { "WRONG" };
            let [expected, counted, lost, double] =
                [line.expected, line.counted, line.lost, line.double].map(grouped);
            writeln!(text, "{:<22}{expected:>18}{counted:>18}{lost:>10}{double:>10}  {verdict}", line.name)?;
        }
        if self.views_unknown > 0 {
            writeln!(
                text,
                "{} views may or may not be recorded: the views are AMBIGUOUS",
                self.views_unknown
            )?;
        }
        writeln!(text)?;
        let (calm, all) = (&self.latencies.calm, &self.latencies.all);
        let count = |number: u64| grouped(i64::try_from(number).unwrap_or(i64::MAX));
        for (name, value) in [
            (
                "commands",
                format!(
                    "{} in {:.1} s, {:.0}/s",
                    count(self.commands),
                    self.traffic.as_secs_f64(),
                    self.commands_per_second()
                ),
            ),
            (
                "events",
                format!(
                    "{} records on the topics, {:.0}/s, settled {:.1} s after the last command",
                    grouped(self.records),
                    self.events_per_second(),
                    self.settling.as_secs_f64()
                ),
            ),
            (
                "commit → visible",
                format!(
                    "p50 {:.1} ms, p99 {:.1} ms undisturbed ({} probes)",
                    millis(calm, 0.5),
                    millis(calm, 0.99),
                    calm.len()
                ),
            ),
            (
                "  with the faults",
                format!(
                    "p50 {:.1} ms, p99 {:.1} ms ({} probes)",
                    millis(all, 0.5),
                    millis(all, 0.99),
                    all.len()
                ),
            ),
            (
                "faults",
                format!(
                    "{} kill -9, {} Kafka outages, {} duplicates sent",
                    self.kills,
                    self.outages,
                    count(self.duplicates)
                ),
            ),
            (
                "orders refused",
                format!(
                    "{} (sold out), {} restocks, {} requests sent again",
                    count(self.orders_sold_out),
                    self.restocked,
                    self.retries
                ),
            ),
        ] {
            writeln!(text, "{name:<22}{value}")?;
        }
        Ok(())
    }

    /// Writes the figures to a file, or to standard output for `-`.
    pub(super) fn write_json(&self, path: &Path, settings: &DemoSettings) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.json(settings))?;
        if path == Path::new("-") {
            println!("{text}");
            return Ok(());
        }
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    fn json(&self, settings: &DemoSettings) -> Value {
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
            figure("demo.settling".to_owned(), "s", self.settling.as_secs_f64()),
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
            "commit": output("git", &["rev-parse", "--short", "HEAD"]),
            "exact": self.exact(),
            "lines": lines,
            "figures": figures,
        })
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

fn machine() -> Value {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "kernel": output("uname", &["-sr"]),
    })
}

fn output(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: i64, views_unknown: i64) -> Report {
        let mut latencies = Latencies::new().unwrap();
        latencies.calm.record(4_000).unwrap();
        latencies.all.record(4_000).unwrap();
        latencies.all.record(900_000).unwrap();
        Report {
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
            traffic: Duration::from_secs(40),
            settling: Duration::from_secs(2),
            latencies,
        }
    }

    #[test]
    fn one_lost_or_one_unknown_makes_the_run_inexact() {
        assert!(report(0, 0).exact());
        assert!(!report(1, 0).exact());
        assert!(!report(0, 1).exact());
        assert!(report(0, 0).table().contains("1,234,567"));
        assert!(report(1, 0).table().contains("WRONG"));
        assert!(report(0, 1).table().contains("AMBIGUOUS"));
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
