//! Tables for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::point::Trouble;
use super::prove::Proof;
use super::run::{Outcome, RunSettings};
use super::variant::Variant;

/// `2 lost, 1 counted twice`
pub(crate) fn list(violations: &BTreeMap<&'static str, u64>) -> String {
    let texts: Vec<String> = violations.iter().map(|(what, count)| format!("{count} {what}")).collect();
    texts.join(", ")
}

/// One column for each run: what was made, and what came of it.
pub(crate) fn table(variant: Variant, seed: u64, runs: &[(RunSettings, Outcome)]) -> String {
    let mut text = format!("consumer {variant}, seed {seed}\n{:<36}", "");
    // Writing to a string cannot fail.
    for (settings, _) in runs {
        let _ = write!(text, "{:>12}", settings.cell_name());
    }
    let mut row = |name: &str, value: &dyn Fn(&RunSettings, &Outcome) -> String| {
        let _ = write!(text, "\n{name:<36}");
        for (settings, outcome) in runs {
            let _ = write!(text, "{:>12}", value(settings, outcome));
        }
    };
    let mut told = Vec::new();
    for trouble in runs.iter().flat_map(|(run, _)| &run.troubles) {
        if !told.contains(trouble) {
            told.push(*trouble);
            row(trouble.name(), &|settings, outcome| made(settings, outcome, *trouble));
        }
    }
    row("events", &|_, outcome| outcome.events.to_string());
    row("records", &|_, outcome| outcome.records.to_string());
    row("dead letters", &|_, outcome| outcome.letters.to_string());
    row("redriven", &|_, outcome| outcome.redriven.to_string());
    row("snapshots", &|_, outcome| outcome.snapshots.to_string());
    row("seconds", &|_, outcome| outcome.took.as_secs().to_string());
    for (settings, outcome) in runs {
        let cell = settings.cell_name();
        if outcome.violations.is_empty() {
            let _ = write!(text, "\n{cell}: nothing is violated");
        } else {
            let _ = write!(text, "\n{cell}: VIOLATED: {}", list(&outcome.violations));
        }
        for detail in outcome.first.iter().chain(&outcome.logs) {
            let _ = write!(text, "\n  {detail}");
        }
    }
    text
}

/// How often it was made; `-` where it cannot be.
fn made(settings: &RunSettings, outcome: &Outcome, trouble: Trouble) -> String {
    match outcome.made.get(trouble.name()) {
        Some(count) => count.to_string(),
        None if settings.troubles.contains(&trouble) => "NOT REACHED".to_owned(),
        None => "-".to_owned(),
    }
}

/// One line for each wrong consumer.
pub(crate) fn proof_line(proof: &Proof) -> String {
    let verdict = if proof.holds() { "caught" } else { "NOT CAUGHT" };
    format!(
        "{:<20} {:>2} runs {:>5} s  {verdict}: {}",
        proof.variant.to_string(),
        proof.runs,
        proof.outcome.took.as_secs(),
        list(&proof.outcome.violations)
    )
}
