//! `cargo x tidy`: the rules about the shape of the repository that no other tool checks.

mod edges;
mod files;
mod metrics;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Checks every rule and prints each breach as `place: what`.
pub(crate) fn check() -> Result<()> {
    let metadata = metadata()?;
    let root = path_in(&metadata, "workspace_root")?;
    let mut breaches = edges::breaches(&root, &metadata)?;
    let files = files::tracked(&root)?;
    breaches.extend(files::breaches(&root, &files)?);
    breaches.extend(metrics::breaches(&root, &files)?);
    for breach in &breaches {
        eprintln!("{breach}");
    }
    ensure!(breaches.is_empty(), "{} breaches of the repository's rules", breaches.len());
    Ok(())
}

/// A path that `cargo metadata` tells by this name.
pub(crate) fn path_in(metadata: &Value, name: &str) -> Result<PathBuf> {
    let path = metadata.get(name).and_then(Value::as_str);
    Ok(PathBuf::from(path.with_context(|| format!("cargo metadata names no {name}"))?))
}

/// `cargo metadata` of the workspace, without dependencies.
pub(crate) fn metadata() -> Result<Value> {
    let output = Command::new("cargo").args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
