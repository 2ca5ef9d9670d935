//! The tasks that run cargo: `test`, `demo`, `bench`, `torture`, `ci`.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::run;

use crate::services::{self, Service, ServiceEnv};
use crate::{tidy, tools};

/// Kill points and relays that are wrong on purpose exist only in test builds: these features compile them in.
const FAILPOINTS: &str = "commerce/failpoints,torture/failpoints";
/// The packages that have such a feature.
const PACKAGES_WITH_FAILPOINTS: [&str; 5] = ["commerce", "inbox", "kafka-client", "outbox", "torture"];
/// The package whose tests use `tools`.
const PACKAGE_WITH_TOOLS: &str = "commerce";
/// Commands of the demo in CI: enough to pass every fault, few enough to be quick.
const CI_DEMO_COMMANDS: &str = "20000";

/// Torture in CI under which servers are stopped: long enough that each is stopped once.
const CI_RESTARTS: [&[&str]; 2] = [&["inbox", "--restarts"], &["outbox", "--minutes", "0.6"]];

/// The services for the length of a task: what this call has started is stopped when it is dropped, also on failure.
struct Services {
    environment: ServiceEnv,
}

impl Services {
    fn up() -> Result<Self> {
        Ok(Self { environment: services::up()? })
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment.variables());
        command
    }

    /// Options that say how to stop and start Kafka, if it is ours to stop.
    fn broker_commands(&self) -> Result<Vec<String>> {
        self.commands("broker", Service::Kafka, "stop")
    }

    /// The same for PostgreSQL, which is stopped without a chance to write anything: that is what has to be survived.
    fn postgres_commands(&self) -> Result<Vec<String>> {
        self.commands("postgres", Service::Postgres, "stop --kill")
    }

    fn commands(&self, option: &str, service: Service, stop: &str) -> Result<Vec<String>> {
        if !self.environment.ours.contains(&service) {
            return Ok(Vec::new());
        }
        let this = std::env::current_exe().context("the path of this program")?;
        let call = |what: &str| format!("'{}' services {what} {service}", this.display());
        Ok(vec![format!("--{option}-stop"), call(stop), format!("--{option}-start"), call("start")])
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for service in &self.environment.started {
            if let Err(error) = services::stop_one(*service, services::Stop::Orderly) {
                eprintln!("{service} could not be stopped: {error:#}");
            }
        }
    }
}

/// Runs all tests of the workspace against real services; `arguments` go to `cargo test`.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    let services = Services::up()?;
    let mut command = services.command("cargo");
    command.args(["test", "--no-fail-fast", "--features"]);
    let packages = packages_of(arguments);
    if packages.is_empty() {
        command.args([FAILPOINTS, "--workspace"]);
    } else {
        command.arg(failpoints_of(&packages));
    }
    if packages.is_empty() || packages.contains(&PACKAGE_WITH_TOOLS) {
        command.envs(tools::variables()?);
    }
    run(command.args(arguments))
}

/// The packages that are named.
fn packages_of(arguments: &[String]) -> Vec<&str> {
    let mut named = Vec::new();
    for (argument, next) in arguments.iter().zip(arguments.iter().skip(1)) {
        if argument == "-p" || argument == "--package" {
            named.push(next.as_str());
        }
    }
    named
}

/// The features of these packages. Cargo refuses features of packages that it does not build.
fn failpoints_of(packages: &[&str]) -> String {
    let with = packages.iter().filter(|package| PACKAGES_WITH_FAILPOINTS.contains(package));
    with.map(|package| format!("{package}/failpoints")).collect::<Vec<_>>().join(",")
}

/// Builds the release binary and runs its demo; `arguments` go to `commerce demo`.
pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    run(Command::new("cargo").args(["build", "--release", "--package", "commerce"]))?;
    let services = Services::up()?;
    let mut command = services.command(target_directory()?.join("release/commerce"));
    command.arg("demo").args(services.broker_commands()?);
    run(command.args(arguments))
}

/// Builds the torture with its wrong relays and runs it; `arguments` go to it.
pub(crate) fn torture(arguments: &[String]) -> Result<()> {
    let build = ["build", "--release", "--package", "torture", "--features", "torture/failpoints"];
    run(Command::new("cargo").args(build))?;
    torture_with("release/torture", arguments)
}

/// Runs this build of the torture, which may stop the servers that are ours.
fn torture_with(program: &str, arguments: &[String]) -> Result<()> {
    let services = Services::up()?;
    let mut command = services.command(target_directory()?.join(program));
    command.args(arguments);
    match arguments.first().map(String::as_str) {
        Some("outbox") => command.args(services.broker_commands()?),
        Some("inbox") => command.args(services.broker_commands()?).args(services.postgres_commands()?),
        Some(_) | None => &mut command,
    };
    run(&mut command)
}

/// Runs a benchmark in release mode; `arguments` go to it.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    run(Command::new("cargo").args(["build", "--release", "--package", "commerce", "--package", "bench"]))?;
    let services = Services::up()?;
    run(services.command(target_directory()?.join("release/bench")).args(arguments))
}

/// Everything that must hold before a change lands, in the order that fails fastest.
pub(crate) fn ci() -> Result<()> {
    step("format", || run(Command::new("cargo").args(["fmt", "--all", "--check"])))?;
    step("tidy", tidy::check)?;
    step("clippy", || {
        run(Command::new("cargo").args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            FAILPOINTS,
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("docs", || {
        run(Command::new("cargo")
            .args(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    // Held over both steps, so that the services start once.
    let _services = Services::up()?;
    step("test", || test(&[]))?;
    // Not among the tests, which share the servers.
    step("restarts", || {
        CI_RESTARTS.iter().try_for_each(|arguments| {
            torture_with("debug/torture", &arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
        })
    })?;
    step("demo", || demo(&["--commands".to_owned(), CI_DEMO_COMMANDS.to_owned()]))
}

fn step(name: &str, task: impl FnOnce() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    eprintln!("ci: {name}");
    task().with_context(|| format!("ci step {name}"))?;
    eprintln!("ci: {name} passed after {} s", begun.elapsed().as_secs());
    Ok(())
}

/// Where cargo puts what it builds, whatever the environment says.
fn target_directory() -> Result<PathBuf> {
    tidy::path_in(&tidy::metadata()?, "target_directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_are_named_get_their_own_failpoints_and_no_others() {
        let of = |text: &str| {
            let arguments: Vec<String> = text.split(' ').map(str::to_owned).collect();
            failpoints_of(&packages_of(&arguments))
        };
        assert!(packages_of(&["inbox".to_owned()]).is_empty());
        assert_eq!(of("-p torture inbox"), "torture/failpoints");
        assert_eq!(of("-p commerce --package outbox x"), "commerce/failpoints,outbox/failpoints");
        assert_eq!(of("-p testkit"), "");
    }
}
