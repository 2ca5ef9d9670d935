//! Brings a server here once, through Maven (`dev/services/pom.xml`), into `.run/dist/<digest of the pom>/`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::state::{Session, create_open_dir, digest, remove_dir};

/// Kafka 4 servers do not start on an older one.
const JAVA_MIN: u32 = 17;

/// How many lines of Maven's output are shown when it fails.
const SHOWN_LINES: usize = 15;

/// What can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Kafka,
    Postgres,
    Redis,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Kafka => "Apache Kafka",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
        }
    }

    /// Executions in the pom.
    fn goals(self) -> &'static [&'static str] {
        match self {
            Self::Kafka => &["dependency:copy-dependencies@kafka"],
            Self::Postgres => &["dependency:unpack@postgres", "antrun:run@postgres"],
            Self::Redis => &["dependency:unpack@redis"],
        }
    }
}

/// The directory of this part, fetched now if it is not here yet.
pub(super) fn part(session: &Session, part: Part) -> Result<PathBuf> {
    let pom = session.paths.root.join("dev/services/pom.xml");
    let dist = dist(session)?;
    let directory = dist.join(part.name());
    let complete = directory.join(".complete");
    if complete.exists() {
        return Ok(directory);
    }
    // What is there without the mark is the rest of an interrupted run.
    remove_dir(&directory)?;
    create_open_dir(&directory)?;
    run_maven(session, &pom, &dist, part)?;
    std::fs::write(&complete, "").with_context(|| complete.display().to_string())?;
    Ok(directory)
}

/// A short name for the state of the pom, for what is unpacked elsewhere.
pub(super) fn pom_digest(session: &Session) -> Result<String> {
    let pom = session.paths.root.join("dev/services/pom.xml");
    let bytes = std::fs::read(&pom).with_context(|| pom.display().to_string())?;
    Ok(format!("{:016x}", digest(&bytes)))
}

fn dist(session: &Session) -> Result<PathBuf> {
    let parent = session.paths.run.join("dist");
    create_open_dir(&parent)?;
    let dist = parent.join(pom_digest(session)?);
    create_open_dir(&dist)?;
    Ok(dist)
}

fn run_maven(session: &Session, pom: &Path, dist: &Path, part: Part) -> Result<()> {
    java()?;
    let title = format!("fetching {} by Maven (first time only)", part.title());
    session.progress.step(&title);
    let mut child = maven_command(pom, dist, part).spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => anyhow::anyhow!(
            "Maven (`mvn`) is not installed; it fetches the servers. Install it: `apt install maven`, `brew install maven`"
        ),
        _ => anyhow::anyhow!(error).context("cannot start `mvn`"),
    })?;
    let output = child.stdout.take().context("Maven has no stdout")?;
    let lines = follow(output, |files| session.progress.detail(format!("{title}: {files} files")))?;
    if !child.wait().context("cannot wait for Maven")?.success() {
        let tail = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n");
        bail!("Maven could not fetch {} (is there a network?):\n{tail}", part.title());
    }
    Ok(())
}

fn maven_command(pom: &Path, dist: &Path, part: Part) -> Command {
    let mut command = Command::new("mvn");
    command.arg("--batch-mode").arg("--file").arg(pom).args(part.goals());
    let mut define = OsString::from("-Ddist=");
    define.push(dist);
    command.arg(define);
    command.arg(format!("-Dpostgres.platform={}", postgres_platform()));
    command.arg(format!("-Dredis.platform={}", redis_platform()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Reads Maven's output to its end. Returns it without the lines about downloads, which are only counted.
fn follow(output: impl Read, mut on_file: impl FnMut(usize)) -> Result<Vec<String>> {
    let mut files = 0;
    let mut rest = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read Maven's output")?;
        if line.contains("Downloaded from ") {
            files += 1;
            on_file(files);
        } else if !line.contains("Downloading from ") {
            rest.push(line);
        }
    }
    Ok(rest)
}

/// The Java to run Kafka with, checked for its version.
pub(super) fn java() -> Result<PathBuf> {
    const ADVICE: &str = "Install it: `apt install openjdk-17-jre-headless`, `brew install openjdk@17`";
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let java = home.filter(|java| java.exists()).unwrap_or_else(|| "java".into());
    let Ok(output) = Command::new(&java).arg("-version").output() else {
        bail!("Java {JAVA_MIN} or newer is not installed; Kafka needs it. {ADVICE}");
    };
    let text = String::from_utf8_lossy(&output.stderr);
    match java_version(&text) {
        Some(version) if version >= JAVA_MIN => Ok(java),
        Some(version) => {
            bail!("{} is Java {version}; Kafka needs {JAVA_MIN} or newer. {ADVICE}", java.display())
        }
        None => bail!("{} does not say which version it is:\n{text}", java.display()),
    }
}

/// Reads the line `openjdk version "17.0.15" 2025-04-15`; Java 8 says `"1.8.0"`.
fn java_version(text: &str) -> Option<u32> {
    let version = text.split_once("version \"")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

/// This machine in the words of the PostgreSQL artifacts.
fn postgres_platform() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64v8" } else { "amd64" };
    format!("{}-{arch}", operating_system())
}

/// This machine in the words of the Redis artifact; also how the program's name ends.
pub(super) fn redis_platform() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!("{}-{arch}", operating_system())
}

fn operating_system() -> &'static str {
    if cfg!(target_os = "macos") { "darwin" } else { "linux" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_of_all_ages_are_read() {
        let cases = [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime", Some(17)),
            ("java version \"21\" 2023-09-19 LTS", Some(21)),
            ("openjdk version \"25-ea\" 2025-09-16", Some(25)),
            ("java version \"1.8.0_402\"", Some(8)),
            ("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"11.0.2\"", Some(11)),
            ("command not found", None),
        ];
        for (text, version) in cases {
            assert_eq!(java_version(text), version, "{text}");
        }
    }

    #[test]
    fn downloads_are_counted_and_left_out_of_the_output() {
        let output = "[INFO] Scanning\nDownloading from x: a\nDownloaded from x: a (1 kB)\n[ERROR] broken\n";
        let mut counts = Vec::new();
        let rest = follow(output.as_bytes(), |files| counts.push(files)).unwrap();
        assert_eq!(counts, [1]);
        assert_eq!(rest, ["[INFO] Scanning", "[ERROR] broken"]);
    }
}
