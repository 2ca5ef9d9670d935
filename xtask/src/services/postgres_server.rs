//! Which PostgreSQL is run, and as whom.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::fetch::{self, Part};
use super::state::{Session, remove_dir};
use crate::process;

/// Names a directory with `postgres` and `initdb` that is to be used whatever else there is.
const BIN_VARIABLE: &str = "COMMERCE_DEV_POSTGRES_BIN";

/// The oldest that our SQL runs on.
const MAJOR_MIN: u32 = 15;

/// What Maven brings (`postgres.version` in `dev/services/pom.xml`). An installed server of this age or newer saves the download.
const MAJOR_FETCHED: u32 = 18;

/// A PostgreSQL server on this machine.
#[derive(Clone, Debug)]
pub(super) struct Server {
    bin: PathBuf,
    major: u32,
    account: Option<Account>,
}

impl Server {
    /// Chooses the one that the variable names, else the newest of those installed and the one from Maven.
    pub(super) fn choose(session: &Session) -> Result<Self> {
        let account = Account::for_server()?;
        if let Some(bin) = std::env::var_os(BIN_VARIABLE).filter(|bin| !bin.is_empty()) {
            let bin = PathBuf::from(bin);
            return match major(&bin) {
                Some(major) if major >= MAJOR_MIN => Ok(Self { bin, major, account }),
                Some(major) => {
                    bail!("{BIN_VARIABLE} names PostgreSQL {major}; {MAJOR_MIN} or newer is needed")
                }
                None => bail!("{BIN_VARIABLE}: {} has no `postgres` and `initdb` that run", bin.display()),
            };
        }
        let installed = newest_installed().map(|(major, bin)| Self { bin, major, account });
        match installed {
            Some(server) if server.major >= MAJOR_FETCHED => Ok(server),
            installed => match (fetched(session), installed) {
                (Ok(bin), _) => Ok(Self { bin, major: MAJOR_FETCHED, account }),
                (Err(error), Some(server)) => {
                    let major = server.major;
                    session
                        .progress
                        .done(&format!("using the installed PostgreSQL {major}, because {error:#}"));
                    Ok(server)
                }
                (Err(error), None) => Err(error.context(format!(
                    "no PostgreSQL: install {MAJOR_MIN} or newer, or give its directory by {BIN_VARIABLE}"
                ))),
            },
        }
    }

    pub(super) fn major(&self) -> u32 {
        self.major
    }

    /// A program of this server, to be run as the account that it accepts.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // A server that inherits a locale of the user's prints what no one can search for, and on macOS may refuse to start.
        command.current_dir("/").env("LC_ALL", "C");
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Makes the server the owner of this directory.
    pub(super) fn give(&self, directory: &Path) -> Result<()> {
        let Some(account) = self.account else {
            return Ok(());
        };
        chown(directory, Some(account.uid), Some(account.gid))
            .with_context(|| directory.display().to_string())
    }
}

/// The unprivileged account that stands in for root, whom PostgreSQL refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` if this program's own account will do.
    pub(super) fn for_server() -> Result<Option<Self>> {
        if process::effective_user() != 0 {
            return Ok(None);
        }
        let found = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some(Self { uid: id("-u", name)?, gid: id("-g", name)? }));
        found.map(Some).context(
            "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as",
        )
    }

    /// Whether this account may pass through the directory and everything above it.
    pub(super) fn can_enter(self, directory: &Path) -> bool {
        let mut test = Command::new("sh");
        test.args(["-c", "test -x \"$0\""]).arg(directory).current_dir("/").uid(self.uid).gid(self.gid);
        test.status().is_ok_and(|status| status.success())
    }
}

fn id(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// Unpacks the server beside its data, where the account that runs it is sure to get; returns its `bin`.
fn fetched(session: &Session) -> Result<PathBuf> {
    let home = &session.state.postgres_home;
    let server = home.join(format!("server-{}", fetch::pom_digest(session)?));
    if !server.exists() {
        let archive = fetch::part(session, Part::Postgres)?;
        session.progress.step("unpacking PostgreSQL");
        let new = home.join("server.new");
        remove_dir(&new)?;
        super::state::create_open_dir(&new)?;
        let mut tar = Command::new("tar");
        let output = tar
            .arg("-xf")
            .arg(archive.join("postgres.tar"))
            .arg("-C")
            .arg(&new)
            .output()
            .context("cannot run `tar`")?;
        if !output.status.success() {
            bail!("cannot unpack PostgreSQL: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::fs::rename(&new, &server).with_context(|| server.display().to_string())?;
        remove_dir(&archive)?;
    }
    let bin = server.join("bin");
    if major(&bin) != Some(MAJOR_FETCHED) {
        bail!("the PostgreSQL that Maven brought does not run here ({})", bin.display());
    }
    Ok(bin)
}

fn newest_installed() -> Option<(u32, PathBuf)> {
    let mut directories: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    // Debian and its relatives, Homebrew on both kinds of Mac, and Fedora's additional versions.
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
        ("/usr", "pgsql-"),
    ] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        directories.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join("bin")),
        );
    }
    directories.extend(told_by_pg_config());
    directories
        .into_iter()
        .filter_map(|bin| Some((major(&bin)?, real_bin(&bin))))
        .filter(|(major, _)| *major >= MAJOR_MIN)
        .max_by_key(|(major, _)| *major)
}

fn told_by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().into())
}

/// The directory that a link to `postgres` leads to: the server looks for its files relative to where it really is.
fn real_bin(bin: &Path) -> PathBuf {
    let postgres = bin.join("postgres").canonicalize().ok();
    postgres.as_deref().and_then(Path::parent).map_or_else(|| bin.to_owned(), Path::to_owned)
}

/// The major version of the server in this directory, `None` if there is none that runs, or one without `initdb`.
fn major(bin: &Path) -> Option<u32> {
    let postgres = bin.join("postgres");
    if !postgres.is_file() || !bin.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(postgres).arg("--version").stderr(Stdio::null()).output().ok()?;
    major_from(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `postgres (PostgreSQL) 18.1`, `15.13 (Debian …)`, `19beta1`.
fn major_from(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_releases_distributions_and_betas() {
        let cases = [
            ("postgres (PostgreSQL) 18.1\n", Some(18)),
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 19beta1\n", Some(19)),
            ("bash: not found", None),
        ];
        for (text, expected) in cases {
            assert_eq!(major_from(text), expected, "{text}");
        }
    }

    #[test]
    fn a_directory_without_a_server_has_no_version() {
        assert_eq!(major(Path::new("/nonexistent")), None);
    }
}
