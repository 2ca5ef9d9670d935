//! Every metric that the code names stands in docs/METRICS.md, and the other way round.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

/// What every metric's name begins with.
const PREFIX: &str = "commerce_";
const MANUAL: &str = "docs/METRICS.md";

/// A line for each name that only one side has.
pub(super) fn breaches(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut in_code = BTreeSet::new();
    for file in files.iter().filter(|file| file.ends_with("/metrics.rs") && !file.starts_with("xtask/")) {
        in_code.extend(names(&std::fs::read_to_string(root.join(file))?, '"'));
    }
    let manual = names(&std::fs::read_to_string(root.join(MANUAL)).context(MANUAL)?, '`');
    let missing = in_code.difference(&manual).map(|name| format!("{MANUAL}: {name} is missing"));
    let stale = manual.difference(&in_code).map(|name| format!("{MANUAL}: {name} is in no metrics.rs"));
    Ok(missing.chain(stale).collect())
}

/// The names that stand between two `quote`s.
fn names(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote)
        .filter(|piece| piece.starts_with(PREFIX))
        .filter(|piece| piece.chars().all(|character| character.is_ascii_lowercase() || character == '_'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn only_whole_quoted_names_count() {
        let text =
            "const A: &str = \"commerce_outbox_lag_seconds\"; // commerce_not_quoted \"commerce_ two words\"";
        assert_eq!(names(text, '"').into_iter().collect::<Vec<_>>(), ["commerce_outbox_lag_seconds"]);
    }
}
