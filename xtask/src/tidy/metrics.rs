//! Every metric that the code names stands in docs/METRICS.md, and the other way round.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

/// What operators see before every name that the code gives to a metric.
const PREFIX: &str = "commerce_";
const MANUAL: &str = "docs/METRICS.md";

/// A line for each name that only one side has.
pub(super) fn breaches(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut in_code = BTreeSet::new();
    for file in files.iter().filter(|file| file.ends_with("/metrics.rs") && !file.starts_with("xtask/")) {
        in_code.extend(constants(&std::fs::read_to_string(root.join(file))?));
    }
    let manual = listed(&std::fs::read_to_string(root.join(MANUAL)).context(MANUAL)?);
    let missing = in_code.difference(&manual).map(|name| format!("{MANUAL}: {name} is missing"));
    let stale = manual.difference(&in_code).map(|name| format!("{MANUAL}: {name} is in no metrics.rs"));
    Ok(missing.chain(stale).collect())
}

/// The names that constants of texts have in code, as operators see them.
fn constants(code: &str) -> BTreeSet<String> {
    let value = |line: &str| Some(line.split_once(": &str = \"")?.1.strip_suffix("\";")?.to_owned());
    let values = code.lines().filter_map(value).filter(|value| is_name(value));
    values.map(|name| format!("{PREFIX}{name}")).collect()
}

/// The names that stand between two backticks.
fn listed(text: &str) -> BTreeSet<String> {
    let pieces = text.split('`').filter(|piece| piece.starts_with(PREFIX) && is_name(piece));
    pieces.map(str::to_owned).collect()
}

fn is_name(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_lowercase() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_whole_quoted_names_count() {
        let code = "const A: &str = \"outbox_lag_seconds\";\n    counter!(A, \"by\" => by)\nconst NAME: &str = \"product-metrics\";";
        let manual = "`commerce_outbox_lag_seconds` of commerce_not_quoted `commerce_ two words`";
        assert_eq!(constants(code).into_iter().collect::<Vec<_>>(), ["commerce_outbox_lag_seconds"]);
        assert_eq!(constants(code), listed(manual));
    }
}
