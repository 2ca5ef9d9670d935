//! Which crate may use which: the table in ARCHITECTURE.md, compared with what the manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The heading above the table.
const HEADING: &str = "## Code map";
/// Crates that anything may use in its tests.
const TEST_CRATES: [&str; 1] = ["testkit"];

type Edges = BTreeMap<String, BTreeSet<String>>;

/// A line for each edge that the table does not allow, and for each crate that it does not name.
pub(super) fn breaches(root: &Path, metadata: &Value) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let allowed = allowed(&text);
    let mut found = Vec::new();
    for (name, uses) in actual(metadata)? {
        let Some(may) = allowed.get(&name) else {
            found.push(format!("ARCHITECTURE.md: crate {name} is not in the table of the code map"));
            continue;
        };
        let all = may.contains("all");
        found.extend(
            uses.iter()
                .filter(|used| !all && !may.contains(*used))
                .map(|used| format!("{name}/Cargo.toml: uses {used}, which ARCHITECTURE.md does not allow")),
        );
    }
    Ok(found)
}

/// Reads rows `| crate | why | may use |` below the heading; names stand in back-ticks, `all` is a word of its own.
fn allowed(text: &str) -> Edges {
    let table = text.split_once(HEADING).map_or("", |(_, rest)| rest);
    table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells.first()?.trim_matches('`').rsplit('/').next()?.to_owned();
            let uses =
                cells.last()?.split([',', ' ']).map(|word| word.trim_matches('`').to_owned()).collect();
            Some((name, uses))
        })
        .collect()
}

fn actual(metadata: &Value) -> Result<Edges> {
    let packages =
        metadata.get("packages").and_then(Value::as_array).context("cargo metadata has no packages")?;
    let name = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    Ok(packages
        .iter()
        .map(|package| {
            let dependencies = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
            let uses = dependencies
                .filter(|dependency| dependency.get("kind").and_then(Value::as_str) != Some("dev"))
                .map(name)
                .filter(|used| ours.contains(used) && !TEST_CRATES.contains(&used.as_str()))
                .collect();
            (name(package), uses)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{allowed, breaches};

    const TABLE: &str = "# A\n\n## Code map\n\nText.\n\n| crate | why | may use |\n|---|---|---|\n\
        | `crates/outbox` | x | `kafka-client` |\n| `kafka-client` | y | – |\n\n| other | table | `inbox` |\n";

    #[test]
    fn the_table_is_read_up_to_its_end() {
        let edges = allowed(TABLE);
        assert!(edges["outbox"].contains("kafka-client"));
        assert!(!edges["kafka-client"].contains("outbox"));
        assert!(!edges.contains_key("other"));
    }

    #[test]
    fn an_edge_outside_the_table_is_named() {
        let root = std::env::temp_dir().join(format!("tidy-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("ARCHITECTURE.md"), TABLE).unwrap();
        let metadata = serde_json::json!({"packages": [
            {"name": "outbox", "dependencies": [{"name": "kafka-client", "kind": null}]},
            {"name": "kafka-client", "dependencies": [{"name": "outbox", "kind": null}, {"name": "serde", "kind": null}]},
            {"name": "stray", "dependencies": []},
        ]});
        let found = breaches(&root, &metadata).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("kafka-client/Cargo.toml: uses outbox"));
        assert!(found[1].contains("stray"));
    }
}
