//! Tables for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::point::{POINTS, Trouble};
use super::prove::Proof;
use super::run::{Outcome, RunSettings};

/// `2 lost, 1 counted twice`
pub(crate) fn list(violations: &BTreeMap<&'static str, u64>) -> String {
    let texts: Vec<String> = violations.iter().map(|(what, count)| format!("{count} {what}")).collect();
    texts.join(", ")
}

/// One column for each run: what was made, and what came of it.
pub(crate) fn table(runs: &[(RunSettings, Outcome)]) -> String {
    let mut text = format!("{:<36}", "");
    // Writing to a string cannot fail.
    for (settings, _) in runs {
        let name = format!("{} x {}", settings.members, if settings.poison { "poison" } else { "clean" });
        let _ = write!(text, "{name:>12}");
    }
    let mut row = |name: &str, value: &dyn Fn(&RunSettings, &Outcome) -> String| {
        let _ = write!(text, "\n{name:<36}");
        for (settings, outcome) in runs {
            let _ = write!(text, "{:>12}", value(settings, outcome));
        }
    };
    row("seed", &|settings, _| (settings.seed % 1_000_000_000).to_string());
    let names: Vec<&str> = runs.iter().flat_map(|(run, _)| &run.troubles).map(Trouble::name).collect();
    let mut told = Vec::new();
    for name in names {
        if told.contains(&name) {
            continue;
        }
        told.push(name);
        row(name, &|settings, outcome| made(settings, outcome, name));
    }
    row("events", &|_, outcome| outcome.events.to_string());
    row("records", &|_, outcome| outcome.records.to_string());
    row("dead letters", &|_, outcome| outcome.letters.to_string());
    row("redriven", &|_, outcome| outcome.redriven.to_string());
    row("snapshots", &|_, outcome| outcome.snapshots.to_string());
    row("seconds", &|_, outcome| outcome.took.as_secs().to_string());
    for (_, outcome) in runs {
        if !outcome.violations.is_empty() {
            let _ = write!(text, "\nVIOLATED: {}", list(&outcome.violations));
            let _ = write!(text, "\n{}", outcome.first.as_deref().unwrap_or_default());
        }
    }
    text
}

/// How often it was made; `-` where it cannot be.
fn made(settings: &RunSettings, outcome: &Outcome, name: &str) -> String {
    if !settings.poison && POINTS.iter().any(|point| point.name == name && point.needs_poison) {
        return "-".to_owned();
    }
    match outcome.made.get(name) {
        Some(count) => count.to_string(),
        None => "NOT REACHED".to_owned(),
    }
}

/// One line for each wrong consumer.
pub(crate) fn proof_line(proof: &Proof) -> String {
    let verdict = if proof.holds() {
        format!("caught: {}", list(&proof.outcome.violations))
    } else {
        "NOT CAUGHT".to_owned()
    };
    format!(
        "{:<20} {:>2} runs {:>5} s  {verdict}",
        proof.variant.to_string(),
        proof.runs,
        proof.outcome.took.as_secs()
    )
}
