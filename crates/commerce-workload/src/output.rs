//! How a tool's report leaves the process.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Prints the report for people, and writes it as JSON to `json` if given; `-` is standard output, and people then
/// read it on standard error.
pub(crate) fn publish<R: Display + Serialize>(report: &R, json: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = json else {
        return write_out(&report.to_string());
    };
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    if path == Path::new("-") {
        eprint!("{report}");
        write_out(&text)
    } else {
        write_out(&report.to_string())?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}

fn write_out(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("writing to standard output")
}
