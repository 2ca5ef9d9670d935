//! Tables for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::prove::Proof;
use super::run::{Outcome, RunSettings};
use super::variant::Variant;

/// `2 lost, 1 phantom`
pub(crate) fn list(violations: &[(&'static str, u64)]) -> String {
    let texts: Vec<String> = violations.iter().map(|(what, count)| format!("{count} {what}")).collect();
    texts.join(", ")
}

/// Everything about one run.
pub(crate) fn table(settings: &RunSettings, outcome: &Outcome) -> String {
    let verdict = &outcome.verdict;
    let rate = per_second(verdict.relayed, outcome.traffic + outcome.drained_after);
    let rows = [
        ("events committed", verdict.committed.to_string()),
        ("relayed", verdict.relayed.to_string()),
        ("lost", verdict.lost.to_string()),
        ("out of order", verdict.out_of_order.to_string()),
        ("phantom", verdict.phantom.to_string()),
        ("damaged", verdict.damaged.to_string()),
        ("positions moved back", outcome.moved_back.to_string()),
        ("stuck", if outcome.is_stuck { "yes" } else { "no" }.to_owned()),
        ("duplicates (allowed)", verdict.duplicates.to_string()),
        ("transactions rolled back", outcome.rolled_back.0.to_string()),
        ("events rolled back", outcome.rolled_back.1.to_string()),
        ("transactions prepared", outcome.prepared.to_string()),
        ("events per second", format!("{rate:.0}")),
        ("drained after", format!("{:.1} s", outcome.drained_after.as_secs_f64())),
    ];
    let mut text =
        format!("relay {}, {} writers, seed {}\n", settings.variant, settings.writers, settings.seed);
    // Writing to a string cannot fail.
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<26} {value:>12}");
    }
    for (fault, count) in &outcome.faults {
        let _ = writeln!(text, "  {:<26} {count:>12}", format!("fault: {fault}"));
    }
    let verdict = if outcome.violations().is_empty() { "nothing is violated" } else { "VIOLATED" };
    let _ = write!(text, "  {verdict}");
    text
}

/// One line for each relay.
pub(crate) fn proof_table(seed: u64, proofs: &[Proof]) -> String {
    let mut text =
        format!("seed {seed}\n{:<16} {:>6} {:>10} {:>8}  verdict\n", "relay", "runs", "events", "seconds");
    for proof in proofs {
        let verdict = match (proof.variant, proof.violations.is_empty()) {
            (Variant::Right, true) => "passes".to_owned(),
            (Variant::Right, false) => format!("ACCUSED: {}", list(&proof.violations)),
            (_, true) => "NOT CAUGHT".to_owned(),
            (_, false) => format!("caught: {}", list(&proof.violations)),
        };
        let variant = proof.variant.to_string();
        let _ = writeln!(
            text,
            "{variant:<16} {:>6} {:>10} {:>8}  {verdict}",
            proof.runs,
            proof.events,
            proof.took.as_secs()
        );
    }
    text
}

fn per_second(events: u64, time: Duration) -> f64 {
    f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / time.as_secs_f64()
}
