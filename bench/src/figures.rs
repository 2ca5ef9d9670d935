//! Figures: collected over runs, printed as a table, written as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use commerce_workload::machine;
use serde::Serialize;

/// One figure over all runs.
#[derive(Debug, Serialize)]
struct Figure<'a> {
    name: &'a str,
    unit: &'a str,
    median: f64,
    min: f64,
    max: f64,
    runs: &'a [f64],
    settings: &'a BTreeMap<&'static str, String>,
}

/// Every figure of one call.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// In order of first appearance: name, unit, values.
    rows: Vec<(&'static str, &'static str, Vec<f64>)>,
    settings: BTreeMap<&'static str, String>,
}

impl Figures {
    /// Notes a setting that the figures depend on.
    pub(crate) fn setting(&mut self, name: &'static str, value: &impl ToString) {
        self.settings.insert(name, value.to_string());
    }

    /// Adds one run's value.
    pub(crate) fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        match self.rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.2.push(value),
            None => self.rows.push((name, unit, vec![value])),
        }
    }

    /// Prints the table and, if asked for, writes JSON.
    pub(crate) fn finish(&self, json: Option<&Path>) -> Result<()> {
        eprintln!("{:<26} {:>12} {:>12} {:>12}  unit", "figure", "median", "min", "max");
        for (name, unit, values) in &self.rows {
            let (median, min, max) = spread(values);
            eprintln!("{name:<26} {median:>12.2} {min:>12.2} {max:>12.2}  {unit}");
        }
        let Some(path) = json else { return Ok(()) };
        let figures: Vec<Figure<'_>> = self
            .rows
            .iter()
            .map(|(name, unit, runs)| {
                let (median, min, max) = spread(runs);
                Figure { name, unit, median, min, max, runs, settings: &self.settings }
            })
            .collect();
        let text = serde_json::to_string_pretty(&serde_json::json!({
            "machine": machine::machine(),
            "commit": machine::commit(),
            "figures": figures,
        }))?;
        if path == Path::new("-") {
            println!("{text}");
            return Ok(());
        }
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }
}

fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let median = if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    };
    (median, at(0), at(sorted.len().wrapping_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
    }
}
