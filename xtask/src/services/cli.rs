//! `cargo x services …`. Answers go to stdout, everything else to stderr, so that `eval "$(cargo x services env)"` works.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::state::{Paths, State};
use super::{Service, ServiceEnv, Stop, answers, given, own_address};

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ServicesTask {
    /// Start what does not run yet, and wait until all answer
    Up,
    /// Stop all; ports and data are kept
    Down {
        /// Delete data, logs and ports as well
        #[arg(long)]
        wipe: bool,
    },
    /// Which of them run, and where
    Status,
    /// Print `export NAME='value'` lines for a shell
    Env,
    /// Start one
    Start { service: Service },
    /// Stop one
    Stop {
        service: Service,
        /// By SIGKILL, without a chance to write anything
        #[arg(long)]
        kill: bool,
    },
    /// Print the end of the logs
    Logs {
        /// Only this one
        service: Option<Service>,
        #[arg(long, default_value_t = 20)]
        lines: u32,
        /// Go on printing what is added
        #[arg(long, short)]
        follow: bool,
    },
}

pub(crate) fn run(task: ServicesTask) -> Result<()> {
    match task {
        ServicesTask::Up => up(),
        ServicesTask::Down { wipe } => {
            let stopped = if wipe { super::wipe()? } else { super::down()? };
            if stopped.is_empty() {
                eprintln!("none of our services was up");
            }
            for service in stopped {
                eprintln!("{service:<8}  down");
            }
            Ok(())
        }
        ServicesTask::Status => status(),
        ServicesTask::Env => env(),
        ServicesTask::Start { service } => {
            let started = super::start_one(service)?;
            eprintln!("{service} {}", if started { "is up" } else { "was up already" });
            Ok(())
        }
        ServicesTask::Stop { service, kill } => {
            let stopped = super::stop_one(service, if kill { Stop::Kill } else { Stop::Orderly })?;
            eprintln!("{service} {}", if stopped { "is down" } else { "was down already" });
            Ok(())
        }
        ServicesTask::Logs { service, lines, follow } => logs(service, lines, follow),
    }
}

fn up() -> Result<()> {
    let begun = Instant::now();
    let environment = super::up()?;
    if environment.started.is_empty() {
        eprintln!("all services are up already");
    } else {
        eprintln!("all services are up, after {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Reads the state without the lock, so that it answers while another run is starting something.
fn load_state() -> Result<State> {
    let paths = Paths::of_this_repository()?;
    State::load(&paths)?.context("the services were never started here; start them by `cargo x services up`")
}

fn status() -> Result<()> {
    let state = load_state()?;
    let paths = Paths::of_this_repository()?;
    for service in Service::ALL {
        if let Some(address) = given(&state, service) {
            println!("{service:<8}  given  {address}  ({})", service.variable());
            continue;
        }
        let address = own_address(&state, service);
        match state.running(service) {
            None => println!("{service:<8}  down   {address}"),
            Some(process) => {
                let word = if answers(&state, service) { "up  " } else { "deaf" };
                println!(
                    "{service:<8}  {word}   {address}  pid {}  {}",
                    process.pid(),
                    paths.log(service).display()
                );
            }
        }
    }
    Ok(())
}

fn env() -> Result<()> {
    let state = load_state()?;
    for service in Service::ALL {
        if given(&state, service).is_none() && state.running(service).is_none() {
            eprintln!("note: {service} is down; start it by `cargo x services up`");
        }
    }
    for (name, value) in ServiceEnv::new(&state, Vec::new()).variables() {
        println!("{}", export_line(name, &value));
    }
    Ok(())
}

/// A line for a POSIX shell that sets the variable to exactly this value, whatever characters it holds.
fn export_line(name: &str, value: &str) -> String {
    format!("export {name}='{}'", value.replace('\'', r"'\''"))
}

fn logs(service: Option<Service>, lines: u32, follow: bool) -> Result<()> {
    let paths = Paths::of_this_repository()?;
    let services = service.map_or_else(|| Service::ALL.to_vec(), |service| vec![service]);
    let files: Vec<_> =
        services.into_iter().map(|service| paths.log(service)).filter(|log| log.exists()).collect();
    if files.is_empty() {
        bail!("there are no logs yet");
    }
    let mut tail = Command::new("tail");
    tail.args(["-n", &lines.to_string()]).args(follow.then_some("-F")).args(files);
    // Its only failure is a reader that has gone away, such as `head`.
    tail.status().context("cannot run `tail`")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_line_survives_quotes_and_spaces() {
        assert_eq!(export_line("A", "x y"), "export A='x y'");
        assert_eq!(export_line("A", "it's"), r"export A='it'\''s'");
    }

    #[test]
    fn a_shell_reads_back_the_exact_value() {
        let value = "postgres://u@h/d?host=%2Frun&x='$HOME' `id` \"\\";
        let script = format!("{}; printf %s \"$A\"", export_line("A", value));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
    }
}
