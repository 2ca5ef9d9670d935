//! Processes that outlive this program: started detached, recognised later, stopped.
//!
//! A pid alone proves nothing, because the system hands it out again. A [`Process`] therefore is a pid *and* when that process
//! started; nothing is signalled unless both agree.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// How often a state is looked at while waiting for it.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the system may take to remove a process after `SIGKILL`.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// A process that we started, now or in an earlier run of this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: u32,
    /// As the system words it; only ever compared for equality.
    started: String,
}

/// The signals we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Kill,
}

impl Process {
    /// The running process with this pid, if there is one.
    pub(crate) fn find(pid: u32) -> Option<Self> {
        started(pid).map(|started| Self { pid, started })
    }

    /// Starts `command` in a session of its own, so that neither the end of this program nor Ctrl-C reaches it. What it prints goes to
    /// the end of `log`.
    pub(crate) fn spawn_detached(command: &mut Command, log: &Path) -> Result<Self> {
        let program = command.get_program().display().to_string();
        let stdout =
            File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let stderr = stdout.try_clone().context("cannot share the log file")?;
        system::start_new_session(command.stdin(Stdio::null()).stdout(stdout).stderr(stderr));
        let pid = command.spawn().with_context(|| format!("cannot start {program}"))?.id();
        Self::find(pid).with_context(|| format!("{program} ended at once; see {}", log.display()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Program and arguments, empty if they cannot be read.
    pub(crate) fn command_line(&self) -> String {
        if let Ok(arguments) = std::fs::read(format!("/proc/{}/cmdline", self.pid)) {
            return String::from_utf8_lossy(&arguments).replace('\0', " ");
        }
        let output = Command::new("ps").args(["-ww", "-o", "command=", "-p", &self.pid.to_string()]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Whether this very process still runs; a zombie does not.
    pub(crate) fn is_running(&self) -> bool {
        started(self.pid).as_deref() == Some(self.started.as_str())
    }

    /// Sends `signal`, waits up to `grace`, then kills. Returns whether the process ended by itself.
    pub(crate) fn stop(&self, signal: Signal, grace: Duration) -> Result<bool> {
        if !self.is_running() {
            return Ok(true);
        }
        system::send(self.pid, signal)?;
        if signal != Signal::Kill && wait_until(grace, || !self.is_running()) {
            return Ok(true);
        }
        system::send(self.pid, Signal::Kill)?;
        if !wait_until(KILL_WAIT, || !self.is_running()) {
            bail!("process {} does not end, not even by SIGKILL", self.pid);
        }
        Ok(false)
    }
}

/// Runs a program to its end, with our standard streams; fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{:?} cannot be run", command.get_program()))?;
    ensure!(status.success(), "{:?} ended with {status}", command.get_program());
    Ok(())
}

/// The first of `names` that is a program in one of the folders of `PATH`.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|directory| names.iter().map(move |name| directory.join(name)))
        .find(|program| program.is_file())
}

/// Waits until `reached` holds, at most `limit`. Returns whether it holds.
#[expect(clippy::disallowed_methods, reason = "this is the one place of xtask that waits for a state")]
pub(crate) fn wait_until(limit: Duration, mut reached: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if reached() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The user this program acts as; 0 is root.
pub(crate) fn effective_user() -> u32 {
    system::effective_user()
}

/// When the process started, `None` if it does not run (any more).
fn started(pid: u32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        started_from_proc(&stat)
    } else {
        let output =
            Command::new("ps").args(["-o", "stat=,lstart=", "-p", &pid.to_string()]).output().ok()?;
        started_from_ps(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Reads a line of `/proc/PID/stat`: the start time is field 22, in clock ticks since boot.
fn started_from_proc(stat: &str) -> Option<String> {
    // The second field is the program's name in parentheses; it may contain spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| start_time.to_owned())
}

/// Reads what `ps -o stat=,lstart=` prints: the state's letters, then a date.
fn started_from_ps(output: &str) -> Option<String> {
    let (state, date) = output.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| date.trim().to_owned())
}

/// The system calls that the standard library does not offer.
#[expect(unsafe_code, reason = "session, signal and user are libc calls without a safe form in std")]
mod system {
    use std::io::Error;
    use std::process::Command;

    use anyhow::{Context, Result, bail};

    use super::{CommandExt, Signal};

    pub(super) fn start_new_session(command: &mut Command) {
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; `setsid` is one.
        unsafe {
            command.pre_exec(|| if libc::setsid() < 0 { Err(Error::last_os_error()) } else { Ok(()) });
        }
    }

    /// A process that is gone already counts as reached.
    pub(super) fn send(pid: u32, signal: Signal) -> Result<()> {
        let target = libc::pid_t::try_from(pid).with_context(|| format!("{pid} is not a pid"))?;
        if target <= 1 {
            bail!("{pid} is not a process of ours");
        }
        let number = match signal {
            Signal::Interrupt => libc::SIGINT,
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
        };
        // SAFETY: `kill` takes two integers and touches no memory of ours.
        if unsafe { libc::kill(target, number) } == 0 {
            return Ok(());
        }
        let error = Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(error).with_context(|| format!("cannot signal process {pid}"))
    }

    pub(super) fn effective_user() -> u32 {
        // SAFETY: `geteuid` has no arguments and cannot fail.
        unsafe { libc::geteuid() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_process_is_recognised_until_it_ends_even_before_it_is_reaped() {
        let mut child = sleeper();
        let process = Process::find(child.id()).unwrap();
        assert!(process.is_running());
        child.kill().unwrap();
        assert!(wait_until(Duration::from_secs(5), || !process.is_running()), "a zombie counts as running");
        child.wait().unwrap();
        assert!(!process.is_running());
    }

    #[test]
    fn a_pid_that_was_handed_out_again_is_not_our_process_and_is_left_alone() {
        let mut child = sleeper();
        let stale = Process { pid: child.id(), started: "some other time".to_owned() };
        assert!(!stale.is_running());
        assert!(stale.stop(Signal::Kill, Duration::ZERO).unwrap());
        assert!(child.try_wait().unwrap().is_none(), "a process that is not ours was stopped");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_detached_process_writes_to_its_log_and_leads_its_own_session() {
        let log = std::env::temp_dir().join(format!("xtask-detached-{}.log", std::process::id()));
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo started; exec sleep 60"]);
        let process = Process::spawn_detached(&mut shell, &log).unwrap();
        assert!(wait_until(Duration::from_secs(5), || std::fs::read_to_string(&log).unwrap() == "started\n"));
        assert!(process.stop(Signal::Terminate, Duration::from_secs(5)).unwrap());
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_process_that_ignores_the_signal_is_killed_after_the_grace() {
        let log = std::env::temp_dir().join(format!("xtask-stubborn-{}.log", std::process::id()));
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]);
        let process = Process::spawn_detached(&mut shell, &log).unwrap();
        assert!(wait_until(Duration::from_secs(5), || std::fs::read_to_string(&log).unwrap() == "deaf\n"));
        assert!(!process.stop(Signal::Terminate, Duration::from_millis(200)).unwrap());
        assert!(!process.is_running());
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn the_start_time_is_read_past_a_program_name_with_parentheses() {
        let stat = "42 (a) (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2";
        assert_eq!(started_from_proc(stat).as_deref(), Some("98765"));
        assert_eq!(started_from_proc(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn ps_output_is_read_as_state_and_date() {
        assert_eq!(
            started_from_ps("Ss   Mon Nov 23 20:41:00 2026\n").as_deref(),
            Some("Mon Nov 23 20:41:00 2026")
        );
        assert_eq!(started_from_ps("Z+   Mon Nov 23 20:41:00 2026\n"), None);
        assert_eq!(started_from_ps(""), None);
    }
}
