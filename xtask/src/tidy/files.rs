//! Rules about single files: length, absolute paths of somebody's machine, unfinished work.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// Lines of a Rust file, its unit tests not counted.
const LINES_MAX: usize = 400;

/// Every file that git tracks or would track, relative to `root`.
pub(super) fn tracked(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    Ok(listed.into_iter().filter(|file| root.join(file).is_file()).collect())
}

/// A line for each breach.
pub(super) fn breaches(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else { continue };
        if is_rust(file) {
            found.extend(too_long(file, &text));
        }
        if !file.ends_with(".lock") {
            found.extend(home_paths(file, &text));
        }
    }
    Ok(found)
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}

fn too_long(file: &str, text: &str) -> Option<String> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    let is_test = file.contains("/tests/");
    (lines > LINES_MAX && !is_test)
        .then(|| format!("{file}: {lines} lines before its tests, {LINES_MAX} are allowed"))
}

/// Paths below a home or workspace directory: true on one machine only.
fn home_paths(file: &str, text: &str) -> Vec<String> {
    let marks = ["home", "root", "work", "Users"].map(|directory| format!("/{directory}/"));
    let stands_alone = |line: &str, at: usize| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(|before| !(before.is_alphanumeric() || "._~-:/$}\"".contains(before)))
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| marks.iter().any(|mark| line.find(mark).is_some_and(|at| stands_alone(line, at))))
        .map(|(index, _)| format!("{file}:{}: an absolute path of one machine", index + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, home_paths, too_long};

    #[test]
    fn a_file_may_have_so_many_lines_and_no_more() {
        let tests = "#[cfg(test)]\nmod tests {}\n";
        let allowed = format!("{}{tests}", "x\n".repeat(LINES_MAX));
        assert!(too_long("a.rs", &allowed).is_none());
        assert!(too_long("a.rs", &format!("x\n{allowed}")).is_some());
    }

    #[test]
    fn a_path_of_one_machine_is_found_where_it_stands() {
        let text = format!("ok\nsee /{}/x/y\n", "root");
        assert_eq!(home_paths("a.md", &text), ["a.md:2: an absolute path of one machine"]);
        assert!(home_paths("a.md", "target/root/x https://example.org/home/x").is_empty());
    }
}
