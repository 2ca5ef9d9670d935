//! One Redis without persistence: the product cache may lose everything at any time, and development is where that should show.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::fetch::{self, Part};
use super::state::{Session, create_open_dir};
use crate::process::find_program;

/// Names of servers that speak the same protocol.
const INSTALLED: [&str; 2] = ["redis-server", "valkey-server"];

/// The command that runs Redis, an installed one or else a fetched one.
pub(super) fn prepare(session: &Session) -> Result<Command> {
    let directory = session.paths.run.join("redis");
    create_open_dir(&directory)?;
    let server = match find_program(&INSTALLED) {
        Some(server) => server,
        None => fetched(&fetch::part(session, Part::Redis)?)?,
    };
    let mut command = Command::new(server);
    command.current_dir(&directory).args([
        "--bind",
        "127.0.0.1",
        "--port",
        &session.state.ports.redis.to_string(),
    ]);
    command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
    Ok(command)
}

fn fetched(directory: &Path) -> Result<PathBuf> {
    let suffix = fetch::redis_platform();
    std::fs::read_dir(directory)
        .with_context(|| directory.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| file.as_os_str().to_string_lossy().ends_with(&suffix))
        .with_context(|| {
            format!(
                "no Redis for {suffix} can be fetched; install `redis-server`, or give COMMERCE_REDIS_URL"
            )
        })
}
