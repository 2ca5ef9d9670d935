//! The services' log files.

use std::path::Path;

use anyhow::{Context, Result};

/// A log this large is set aside before the next start; one older log is kept.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// Sets the log aside if it has grown too large. To be called only while nobody writes to it.
pub(super) fn rotate(log: &Path) -> Result<()> {
    if std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > SIZE_MAX) {
        std::fs::rename(log, log.with_extension("log.old")).with_context(|| log.display().to_string())?;
    }
    Ok(())
}

/// The last `count` lines; empty if there is no log.
pub(super) fn tail(log: &Path, count: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines_and_of_no_log_is_empty() {
        let log = std::env::temp_dir().join(format!("xtask-tail-{}.log", std::process::id()));
        std::fs::write(&log, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&log, 2), "b\nc");
        assert_eq!(tail(&log, 9), "a\nb\nc");
        std::fs::remove_file(&log).unwrap();
        assert_eq!(tail(&log, 2), "");
    }
}
