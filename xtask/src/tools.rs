//! What some tests need besides Rust and the services: a browser with Node, and Schemathesis with Python.
//!
//! Each is given to the tests by a variable. Where a tool cannot be had, its tests are skipped, and a loud line says so; `.ci/run` installs
//! them all, so that nothing is skipped there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{find_program, run};
use crate::tidy;

/// Where a browser is, for tests.
const BROWSER: &str = "TEST_BROWSER";
/// Names of browsers that speak Chromium's protocol.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The folder with the browser's scripts and the packages they use.
const BROWSER_SCRIPTS: &str = "dev/browser";

/// Where Schemathesis is, for tests.
const SCHEMATHESIS: &str = "TEST_SCHEMATHESIS";
/// What it consists of.
const SCHEMATHESIS_PARTS: &str = "dev/schemathesis/requirements.txt";
/// Where it is installed.
const SCHEMATHESIS_HOME: &str = ".run/schemathesis";

/// The variables that name the tools, each installed if need be.
///
/// # Errors
/// When a tool's packages cannot be installed.
pub(crate) fn variables() -> Result<Vec<(&'static str, PathBuf)>> {
    let root = tidy::path_in(&tidy::metadata()?, "workspace_root")?;
    let tools = [(BROWSER, browser(&root)?), (SCHEMATHESIS, schemathesis(&root)?)];
    Ok(tools.into_iter().filter_map(|(variable, path)| Some((variable, path?))).collect())
}

fn browser(root: &Path) -> Result<Option<PathBuf>> {
    let Some(browser) = given(BROWSER).or_else(|| find_program(&BROWSERS)) else {
        skipped("in a browser", "no Chromium is installed (on Debian: `apt-get install chromium`)");
        return Ok(None);
    };
    let is_new_enough = "process.exit(Number(process.versions.node.split('.')[0]) >= 20 ? 0 : 1)";
    if !answers("node", &["-e", is_new_enough]) || find_program(&["npm"]).is_none() {
        skipped("in a browser", "no Node.js 20 with npm is installed");
        return Ok(None);
    }
    let scripts = root.join(BROWSER_SCRIPTS);
    once(&scripts.join("package-lock.json"), &scripts.join("node_modules"), || {
        run(Command::new("npm").args(["ci", "--no-progress"]).current_dir(&scripts))
    })?;
    Ok(Some(browser))
}

fn schemathesis(root: &Path) -> Result<Option<PathBuf>> {
    if let Some(given) = given(SCHEMATHESIS) {
        return Ok(Some(given));
    }
    // Debian packs what `venv` needs apart.
    if !answers("python3", &["-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 10))"]) {
        skipped(
            "with Schemathesis",
            "no Python 3.10 with venv is installed (on Debian: `apt-get install python3-venv`)",
        );
        return Ok(None);
    }
    let (parts, home) = (root.join(SCHEMATHESIS_PARTS), root.join(SCHEMATHESIS_HOME));
    once(&parts, &home, || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
        run(Command::new(home.join("bin/pip"))
            .args(["install", "--quiet", "--require-hashes", "--only-binary", ":all:", "--requirement"])
            .arg(&parts))
    })?;
    Ok(Some(home.join("bin/schemathesis")))
}

/// Whether a program is there and ends well, whatever it says.
fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn skipped(tests: &str, why: &str) {
    eprintln!("\n*** TESTS {} ARE SKIPPED: {why} ***\n", tests.to_uppercase());
}

/// Installs into `directory` what `list` names, unless just that is there already: a copy of the list tells.
fn once(list: &Path, directory: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = std::fs::read(list).with_context(|| list.display().to_string())?;
    let installed = directory.join(".installed");
    if std::fs::read(&installed).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    eprintln!("installing what {} names", list.display());
    install()?;
    std::fs::write(&installed, wanted).with_context(|| installed.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{answers, once};

    #[test]
    fn a_program_that_is_missing_or_refuses_is_none() {
        assert!(answers("true", &[]));
        assert!(!answers("false", &[]));
        assert!(!answers("no-such-program-anywhere", &[]));
    }

    #[test]
    fn what_a_list_names_is_installed_once_and_anew_when_the_list_changes() {
        let root = std::env::temp_dir().join(format!("xtask-tools-{}", std::process::id()));
        let (list, directory) = (root.join("list"), root.join("made"));
        std::fs::create_dir_all(&root).unwrap();
        let installed = Cell::new(0);
        let ask = |contents: &str| {
            std::fs::write(&list, contents).unwrap();
            once(&list, &directory, || {
                installed.set(installed.get() + 1);
                Ok(std::fs::create_dir_all(&directory)?)
            })
        };
        ask("a").unwrap();
        ask("a").unwrap();
        assert_eq!(installed.get(), 1);
        ask("b").unwrap();
        assert_eq!(installed.get(), 2);
        // An installation that fails is tried again.
        std::fs::write(&list, "c").unwrap();
        assert!(once(&list, &directory, || anyhow::bail!("no network")).is_err());
        ask("c").unwrap();
        assert_eq!(installed.get(), 3);
        std::fs::remove_dir_all(root).unwrap();
    }
}
