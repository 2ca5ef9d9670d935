//! How answers leave the process.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// Writes the answer as JSON where that is asked for, else as text to standard output.
pub(crate) fn answer(
    file: Option<&Path>,
    as_json: impl FnOnce() -> Value,
    as_text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let (text, file) = match file {
        Some(file) => (serde_json::to_string_pretty(&as_json())? + "\n", Some(file)),
        None => (as_text(), None),
    };
    match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => std::fs::write(file, text).with_context(|| file.display().to_string()),
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}
