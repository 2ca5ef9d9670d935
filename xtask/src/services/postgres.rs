//! One PostgreSQL: made once, run with settings that keep what durability costs and leave out what only development would pay.
//!
//! Whoever is on this machine may connect without a password, through the socket or 127.0.0.1, as is usual in development.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Service;
use super::log::tail;
use super::postgres_server::{Account, Server};
use super::state::{Paths, Session, State, create_open_dir, digest, remove_dir};
use crate::process::{self, Process, Signal};

/// The role and the database. A superuser, because each test makes its own database.
const NAME: &str = "commerce";

/// The shortest limit of a socket's path on the systems we run on (macOS: 104 bytes with the zero; Linux: 108).
const SOCKET_PATH_MAX: usize = 103;

/// No system hands out pids this high (Linux: 2^22 at most).
const PID_OF_NOBODY: u32 = 2_000_000_000;

/// Durability as in production: commits wait for the disk. The rest avoids checkpoints and planner work in the middle of a measurement.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "max_connections=300",
    "shared_buffers=512MB",
    "fsync=on",
    "synchronous_commit=on",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "max_prepared_transactions=20",
    "track_io_timing=off",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_checkpoints=off",
    "logging_collector=off",
];

/// Chooses where data, socket and unpacked server live: under `.run`, unless the account that PostgreSQL has to run as cannot get there
/// (a repository in root's home) or the socket's path would be too long.
pub(super) fn choose_home(paths: &Paths) -> Result<PathBuf> {
    let inside = paths.run.join("postgres");
    let fits = socket_in(&inside, u16::MAX).as_os_str().len() <= SOCKET_PATH_MAX;
    if fits && Account::for_server()?.is_none_or(|account| account.can_enter(&paths.run)) {
        return Ok(inside);
    }
    Ok(format!("/var/tmp/commerce-{:016x}", digest(paths.root.as_os_str().as_encoded_bytes())).into())
}

pub(super) fn socket(state: &State) -> PathBuf {
    socket_in(&state.postgres_home, state.ports.postgres)
}

/// For sqlx and libpq alike: `host` in the query is the directory of the socket, the port is part of the socket's name.
pub(super) fn url(state: &State) -> String {
    let directory = percent_encoded(&state.postgres_home.join("socket"));
    format!("postgres://{NAME}@localhost:{}/{NAME}?host={directory}", state.ports.postgres)
}

/// The command that runs PostgreSQL, with a cluster made if there is none.
pub(super) fn prepare(session: &Session) -> Result<Command> {
    let home = &session.state.postgres_home;
    create_own_home(home)?;
    let server = Server::choose(session)?;
    let socket = home.join("socket");
    // Another major version does not read the files of this one.
    let data = home.join(format!("data-{}", server.major()));
    if !data.exists() {
        session.progress.step("making a PostgreSQL cluster");
        create_cluster(&server, &data)?;
    }
    settle_pid_file(&data)?;
    // The socket has a pid file of its own, with the same weakness and nothing to learn from. No server of ours runs here now.
    remove_dir(&socket)?;
    create_open_dir(&socket)?;
    server.give(&socket)?;
    let mut command = server.command("postgres");
    command.arg("-D").arg(&data);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    if supports_lz4(&server, &data) {
        command.args(["-c", "wal_compression=lz4"]);
    }
    command.args(["-c", &format!("port={}", session.state.ports.postgres)]);
    command.arg("-c").arg(format!("unix_socket_directories={}", socket.display()));
    Ok(command)
}

/// Whether PostgreSQL has just refused to start because sessions of a killed predecessor are still at work.
pub(super) fn meets_old_sessions(log: &Path) -> bool {
    tail(log, 5).contains("shared memory block")
}

fn socket_in(home: &Path, port: u16) -> PathBuf {
    home.join("socket").join(format!(".s.PGSQL.{port}"))
}

/// Everything but letters, digits and `-._~` as `%XX`.
fn percent_encoded(path: &Path) -> String {
    path.as_os_str().as_encoded_bytes().iter().fold(String::new(), |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            text + &char::from(*byte).to_string()
        }
        other => text + &format!("%{other:02X}"),
    })
}

/// Refuses a home that somebody else has put in our way, which is possible in a directory that all may write to.
fn create_own_home(home: &Path) -> Result<()> {
    create_open_dir(home)?;
    let metadata = std::fs::symlink_metadata(home).with_context(|| home.display().to_string())?;
    if !metadata.is_dir() || metadata.uid() != process::effective_user() {
        bail!("{} exists and belongs to somebody else; delete it", home.display());
    }
    Ok(())
}

/// Makes the cluster under another name first, so that an interrupted run leaves none that looks complete.
fn create_cluster(server: &Server, data: &Path) -> Result<()> {
    let new = data.with_extension("new");
    remove_dir(&new)?;
    std::fs::create_dir(&new).with_context(|| new.display().to_string())?;
    server.give(&new)?;
    let mut initdb = server.command("initdb");
    initdb.arg("-D").arg(&new).args([
        "--username",
        NAME,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
    ]);
    run(initdb, "")?;
    // Single-user mode needs no client program, which not every distribution of the server has.
    let mut single = server.command("postgres");
    single.arg("--single").arg("-D").arg(&new).arg("postgres");
    run(single, &format!("create database {NAME};\n"))?;
    std::fs::rename(&new, data).with_context(|| data.display().to_string())
}

/// Runs a program to its end, with `input`; what it said is shown only if it fails.
fn run(mut command: Command, input: &str) -> Result<()> {
    let program = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("{program} does not read its input"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Single-user mode ends well even after an error.
    if !output.status.success() || said.contains("ERROR:") {
        bail!("{program} failed:\n{said}");
    }
    Ok(())
}

/// Deals with the pid file that an earlier server left: a server that our state does not know is stopped if it runs on these very
/// files, and a dead one is made to look dead.
///
/// PostgreSQL takes any process with the pid in the file for a running server, also an unrelated one that was given the number, or a
/// zombie that nobody reaps in a container. The file itself must stay: from the rest of it PostgreSQL learns whether sessions of the dead
/// server are still at work.
fn settle_pid_file(data: &Path) -> Result<()> {
    let file = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return Ok(());
    };
    let Some((pid, rest)) = text.split_once('\n') else {
        return Ok(());
    };
    let process = pid.trim().parse().ok().and_then(Process::find);
    if let Some(process) =
        process.filter(|process| process.command_line().contains(&data.display().to_string()))
    {
        process.stop(Signal::Interrupt, Service::Postgres.stop_grace())?;
        return settle_pid_file(data);
    }
    // Writing into the file keeps its owner, which replacing it would not.
    std::fs::write(&file, format!("{PID_OF_NOBODY}\n{rest}")).with_context(|| file.display().to_string())
}

fn supports_lz4(server: &Server, data: &Path) -> bool {
    let mut command = server.command("postgres");
    command.arg("-D").arg(data).args(["-C", "wal_compression", "-c", "wal_compression=lz4"]);
    command.output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_directory_is_encoded_in_the_url() {
        assert_eq!(percent_encoded(Path::new("/srv/my repo/.run")), "%2Fsrv%2Fmy%20repo%2F.run");
        assert_eq!(percent_encoded(Path::new("/é&?")), "%2F%C3%A9%26%3F");
    }

    #[test]
    fn a_repository_too_deep_for_a_socket_gets_a_short_home_of_its_own() {
        let deep = |name: &str| {
            let root = PathBuf::from(format!("/{}/{name}", "deep/".repeat(20)));
            choose_home(&Paths { run: root.join(".run"), root }).unwrap()
        };
        assert!(socket_in(&deep("a"), u16::MAX).as_os_str().len() <= SOCKET_PATH_MAX);
        assert_ne!(deep("a"), deep("b"));
    }

    #[test]
    fn a_pid_file_with_the_pid_of_another_program_is_made_to_name_nobody() {
        let data = std::env::temp_dir().join(format!("xtask-pid-file-{}", std::process::id()));
        std::fs::create_dir_all(&data).unwrap();
        settle_pid_file(&data).unwrap();
        let file = data.join("postmaster.pid");
        std::fs::write(&file, format!("{}\n/data\n1795468100\n", std::process::id())).unwrap();
        settle_pid_file(&data).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{PID_OF_NOBODY}\n/data\n1795468100\n"));
        assert!(Process::find(PID_OF_NOBODY).is_none());
        std::fs::remove_dir_all(&data).unwrap();
    }
}
