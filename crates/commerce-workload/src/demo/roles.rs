//! The roles as processes: started, watched, killed and started again, always stopped at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// A role that is not ready after this long is broken.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How often readiness and life are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Time to end after SIGTERM before SIGKILL: longer than the roles' own drain.
const STOP_GRACE: Duration = Duration::from_secs(25);
/// Lines of a role's log that are shown when it died.
const LAST_LINES: usize = 20;

/// A role of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Api,
    Relay,
    Streamer,
    /// Another api, which knows its callers by tokens: for a person with a browser.
    Storefront,
}

impl Role {
    const ALL: [Self; 4] = [Self::Api, Self::Relay, Self::Streamer, Self::Storefront];

    /// What is run, with which settings of its own.
    const fn process(self) -> (&'static str, &'static [(&'static str, &'static str)]) {
        match self {
            Self::Api => ("api", &[]),
            Self::Relay => ("relay", &[]),
            Self::Streamer => ("streamer", &[]),
            Self::Storefront => ("api", &[("COMMERCE_AUTH_MODE", "token")]),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Api => "api",
            Self::Relay => "relay",
            Self::Streamer => "streamer",
            Self::Storefront => "storefront",
        })
    }
}

/// Where a role listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    management: SocketAddr,
    api: SocketAddr,
}

/// The processes of one demo.
pub(super) struct Roles {
    binary: PathBuf,
    run_dir: PathBuf,
    environment: Vec<(String, String)>,
    ports: BTreeMap<Role, Ports>,
    http: reqwest::Client,
    running: Mutex<BTreeMap<Role, Child>>,
}

impl Roles {
    /// Chooses free ports; starts nothing.
    pub(super) fn new(
        binary: &Path,
        run_dir: &Path,
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(run_dir).with_context(|| run_dir.display().to_string())?;
        let mut ports = BTreeMap::new();
        // Held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        for role in Role::ALL {
            let mut free = || -> std::io::Result<SocketAddr> {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                let address = listener.local_addr()?;
                held.push(listener);
                Ok(address)
            };
            ports.insert(role, Ports { management: free()?, api: free()? });
        }
        Ok(Self {
            binary: binary.to_owned(),
            run_dir: run_dir.to_owned(),
            environment,
            ports,
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?,
            running: Mutex::default(),
        })
    }

    /// Runs `commerce <subcommand> <arguments>` to its end; answers what it prints on standard output.
    pub(super) async fn run_once(&self, subcommand: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let log = self.log_path(subcommand);
        let mut command = self.command(subcommand, &log)?;
        let child = command.args(arguments).stdout(Stdio::piped()).spawn();
        let ended = child.with_context(|| self.binary.display().to_string())?.wait_with_output().await?;
        let status = ended.status;
        if !status.success() {
            bail!("commerce {subcommand} ended with {status}; its last lines:\n{}", last_lines(&log));
        }
        Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned())
    }

    /// Where buyers reach an api.
    pub(super) fn url(&self, role: Role) -> String {
        self.ports.get(&role).map_or_else(String::new, |ports| format!("http://{}", ports.api))
    }

    /// Name, pid and management URL of each running role.
    pub(super) async fn list(&self) -> Vec<(Role, u32, String)> {
        let running = self.running.lock().await;
        let url = |role| {
            self.ports.get(role).map_or_else(String::new, |ports| format!("http://{}", ports.management))
        };
        running.iter().map(|(role, child)| (*role, child.id().unwrap_or(0), url(role))).collect()
    }

    /// Starts a role and waits until it is ready.
    pub(super) async fn start(&self, role: Role) -> anyhow::Result<()> {
        let ports = self.ports.get(&role).copied().context("every role has ports")?;
        let (subcommand, settings) = role.process();
        let mut command = self.command(subcommand, &self.log_path(&role.to_string()))?;
        command
            .envs(settings.iter().copied())
            .env("COMMERCE_MANAGEMENT_LISTEN", ports.management.to_string())
            .env("COMMERCE_API_LISTEN", ports.api.to_string())
            // Its buyers ask as often as they get answers, however few they are.
            .env("COMMERCE_API_RATE_CALLER_PER_MINUTE", "0")
            // So that its books know of each view what became of it.
            .env("COMMERCE_API_VIEW_COMMIT_WAIT", "2s")
            .env("COMMERCE_PROCESS_INSTANCE", format!("demo-{role}"));
        let child = command.spawn().with_context(|| self.binary.display().to_string())?;
        self.running.lock().await.insert(role, child);
        let url = format!("http://{}/health/ready", ports.management);
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let last = match self.http.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                bail!("{role} is not ready after {} s: {last}", READY_DEADLINE.as_secs());
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends a role by SIGKILL, without any chance to finish what it was doing; answers its pid.
    pub(super) async fn kill(&self, role: Role) -> anyhow::Result<u32> {
        let mut child =
            self.running.lock().await.remove(&role).with_context(|| format!("{role} is not running"))?;
        let pid = child.id().unwrap_or(0);
        child.kill().await.with_context(|| format!("{role} cannot be killed"))?;
        Ok(pid)
    }

    /// Waits for a role that ends by itself, and tells what it said last.
    pub(super) async fn watch(&self) -> anyhow::Error {
        loop {
            sleep(LOOK_INTERVAL).await;
            let mut running = self.running.lock().await;
            for (role, child) in running.iter_mut() {
                if let Ok(Some(status)) = child.try_wait() {
                    let log = self.log_path(&role.to_string());
                    let lines = last_lines(&log);
                    return anyhow::anyhow!(
                        "{role} ended by itself with {status}; its last lines ({}):\n{lines}",
                        log.display()
                    );
                }
            }
        }
    }

    /// Stops every role: SIGTERM to all, then SIGKILL to whoever does not end. Answers who did not end well.
    pub(super) async fn stop(&self) -> anyhow::Result<Vec<(Role, String)>> {
        let mut running = std::mem::take(&mut *self.running.lock().await);
        for child in running.values() {
            if let Some(pid) = child.id() {
                // The standard library has no SIGTERM; a failure is answered by SIGKILL below.
                let _ = Command::new("kill")
                    .args(["-TERM", &pid.to_string()])
                    .stderr(Stdio::null())
                    .status()
                    .await;
            }
        }
        let mut unwell = Vec::new();
        for (role, child) in &mut running {
            match timeout(STOP_GRACE, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => unwell.push((*role, status.to_string())),
                Ok(Err(error)) => return Err(error.into()),
                Err(_elapsed) => {
                    child.kill().await.with_context(|| format!("{role} cannot be killed"))?;
                    unwell.push((*role, format!("killed after {} s", STOP_GRACE.as_secs())));
                }
            }
        }
        Ok(unwell)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.run_dir.join(format!("{name}.log"))
    }

    fn command(&self, subcommand: &str, log: &Path) -> anyhow::Result<Command> {
        let output =
            File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(&self.binary);
        command
            .arg(subcommand)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C at the terminal is for the demo, which then stops them in order.
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }
}

fn last_lines(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_found_even_when_it_is_not_text() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("role.log");
        let mut bytes: Vec<u8> = (0..100).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        bytes.extend(b"\xff\n");
        std::fs::write(&log, bytes).unwrap();
        let lines = last_lines(&log);
        assert_eq!(lines.lines().count(), LAST_LINES);
        assert!(lines.starts_with("line 81\n"), "{lines}");
        assert_eq!(last_lines(&dir.path().join("none")), "");
    }

    #[tokio::test]
    async fn a_role_that_ends_by_itself_is_reported_with_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        // `sh relay` finds no such script and says so, as a role does that cannot start.
        let roles = Roles::new(Path::new("sh"), dir.path(), Vec::new()).unwrap();
        let error = tokio::select! {
            error = roles.watch() => error,
            started = roles.start(Role::Relay) => panic!("it cannot become ready: {started:?}"),
        };
        assert!(error.to_string().contains("relay ended by itself"), "{error}");
        assert!(roles.run_once("migrate", &[]).await.is_err());
    }
}
