//! What figures were measured on.

use std::process::Command;

use serde_json::{Value, json};

/// Cores, processor and kernel.
#[must_use]
pub fn machine() -> Value {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "kernel": output("uname", &["-sr"]),
    })
}

/// The commit that is checked out; empty outside of a repository.
#[must_use]
pub fn commit() -> String {
    output("git", &["rev-parse", "--short", "HEAD"])
}

fn output(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
