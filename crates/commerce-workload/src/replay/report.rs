//! What a replay did, for people and machines.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Lines of a file by outcome. Every line but the header is in exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Lines, the header not included.
    pub rows: u64,
    /// Lines that were sold.
    pub sale_lines: u64,
    /// Orders that they made.
    pub sale_orders: u64,
    /// Units sold.
    pub sale_units: i64,
    /// Lines that were cancelled.
    pub cancelled_lines: u64,
    /// Invoices that they are on.
    pub cancelled_invoices: u64,
    /// Units taken back.
    pub cancelled_units: i64,
    /// Views.
    pub views: u64,
    /// Likes that were new.
    pub likes: u64,
    /// Likes that were there already, and add nothing.
    pub already_liked: u64,
    /// Lines without an event, by kind.
    pub ignored: BTreeMap<String, u64>,
    /// Lines that do not count, by reason.
    pub rejected: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sale_lines += other.sale_lines;
        self.sale_orders += other.sale_orders;
        self.sale_units += other.sale_units;
        self.cancelled_lines += other.cancelled_lines;
        self.cancelled_invoices += other.cancelled_invoices;
        self.cancelled_units += other.cancelled_units;
        self.views += other.views;
        self.likes += other.likes;
        self.already_liked += other.already_liked;
        for (kind, lines) in &other.ignored {
            *self.ignored.entry(kind.clone()).or_default() += lines;
        }
        for (reason, lines) in &other.rejected {
            *self.rejected.entry(reason.clone()).or_default() += lines;
        }
    }

    /// Lines that were rejected, for any reason.
    #[must_use]
    pub fn rejected_rows(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Lines that have an outcome: equals [`Self::rows`].
    #[must_use]
    pub fn accounted_rows(&self) -> u64 {
        self.sale_lines
            + self.cancelled_lines
            + self.views
            + self.likes
            + self.already_liked
            + self.ignored.values().sum::<u64>()
            + self.rejected_rows()
    }
}

/// A replay at its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayReport {
    /// The format's name.
    pub format: String,
    /// SHA-256 of the file's (decompressed) content.
    pub digest: String,
    /// Lines that earlier runs had applied, the header line included.
    pub resumed_after_line: u64,
    /// The file was replayed to its end before: this run added nothing.
    pub already_finished: bool,
    /// What this run added.
    pub added: Tally,
    /// What all runs of this file added together.
    pub total: Tally,
    /// Products in the shop now.
    pub products: i64,
    /// Time of this run's part.
    pub seconds: f64,
    /// Lines of this run's part in a second.
    pub rows_per_second: f64,
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.total;
        let mut line =
            |label: &str, rows: u64, more: String| writeln!(formatter, "{label:<44}{rows:>12}{more}");
        line("rows", total.rows, String::new())?;
        if total.sale_lines > 0 {
            line(
                "  sale lines",
                total.sale_lines,
                format!("  {} units in {} orders", total.sale_units, total.sale_orders),
            )?;
        }
        if total.cancelled_lines > 0 {
            let more = format!("  {} units in {} invoices", total.cancelled_units, total.cancelled_invoices);
            line("  cancelled lines", total.cancelled_lines, more)?;
        }
        for (label, rows) in
            [("  views", total.views), ("  likes", total.likes), ("  already liked", total.already_liked)]
        {
            if rows > 0 {
                line(label, rows, String::new())?;
            }
        }
        for (kind, rows) in &total.ignored {
            line(&format!("  ignored: {kind}"), *rows, String::new())?;
        }
        for (reason, rows) in &total.rejected {
            line(&format!("  rejected: {reason}"), *rows, String::new())?;
        }
        let products = u64::try_from(self.products).unwrap_or(0);
        line(
            "net units, products in the shop",
            products,
            format!("  {} units", total.sale_units - total.cancelled_units),
        )?;
        if self.already_finished {
            return writeln!(formatter, "this file was replayed before: nothing was added");
        }
        if self.resumed_after_line > 0 {
            writeln!(formatter, "went on after line {}", self.resumed_after_line)?;
        }
        writeln!(
            formatter,
            "{} rows in {:.1} s: {:.0} rows/s",
            self.added.rows, self.seconds, self.rows_per_second
        )
    }
}
