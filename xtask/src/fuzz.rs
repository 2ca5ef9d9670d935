//! `cargo x fuzz`: what reads bytes from outside is fed with what libFuzzer makes up, guided by the branches that it sees it take.
//!
//! The build is apart from all others: code of ours and of our dependencies counts what it passes and tells what it compares, which
//! stable Rust can do by options of its compiler. Seeds are kept in `fuzz/corpus`; what a run adds to them is kept with the build.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::process::run;
use crate::progress::Progress;
use crate::tidy;

/// Every branch has a counter, every comparison is told.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Else LLVM makes one branch of several conditions, and the fuzzer does not see which of them held.
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    // Else short texts are compared in place, after the instrumentation, and not by the function of C's library that libFuzzer listens to.
    "-Cllvm-args=-max-loads-per-memcmp=0",
    "-Cllvm-args=-max-loads-per-memcmp-opt-size=0",
];
/// The target with a mistake on purpose.
const PLANTED: &str = "planted";
/// Within so many runs the mistake on purpose is found; with the seeds that were tried it took less than a tenth.
const PLANTED_RUNS: u64 = 3_000_000;
/// Seconds for a target, unless something else is said.
const SECONDS: u64 = 60;
/// An input that takes longer is a mistake.
const INPUT_SECONDS_MAX: u32 = 10;
/// Memory of the process; more is a mistake.
const MEMORY_MB_MAX: u32 = 2_048;
/// Bytes of an input.
const INPUT_BYTES_MAX: u32 = 4_096;
/// Last lines that are shown of a run that failed.
const LINES_SHOWN: usize = 60;

/// What `cargo x fuzz` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this target, as fuzz/corpus has them; all of them unless given
    target: Option<String>,
    /// Seconds for each target; 60 unless runs are given
    #[arg(long)]
    seconds: Option<u64>,
    /// Runs for each target
    #[arg(long)]
    runs: Option<u64>,
    /// Begin with the seeds of the repository alone and with these dice, so that the same is done again
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    seed: Option<u32>,
    /// Run this input alone
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with_all = ["seconds", "runs", "seed"])]
    input: Option<PathBuf>,
}

/// How long a target runs.
#[derive(Clone, Copy)]
enum Length {
    Seconds(u64),
    Runs(u64),
}

/// The instrumented program and where its things are.
struct Fuzzer {
    program: PathBuf,
    /// `fuzz/` of the repository.
    home: PathBuf,
    /// What runs leave behind.
    kept: PathBuf,
}

/// What a run told about itself.
#[derive(Default)]
struct Told {
    runs: u64,
    branches: u64,
    last: VecDeque<String>,
}

/// Builds the targets and runs one or all.
///
/// # Errors
/// When a target shows a mistake, whose input is kept; or the planted mistake is not found.
pub(crate) fn fuzz(arguments: &Arguments) -> Result<()> {
    let fuzzer = Fuzzer::build()?;
    if let (Some(target), Some(input)) = (&arguments.target, &arguments.input) {
        return run(Command::new(&fuzzer.program).arg(target).arg(input));
    }
    let length = match (arguments.runs, arguments.seconds) {
        (Some(runs), _) => Length::Runs(runs),
        (None, seconds) => Length::Seconds(seconds.unwrap_or(SECONDS)),
    };
    match arguments.target.as_deref() {
        Some(PLANTED) => fuzzer.find_planted(),
        Some(target) => fuzzer.explore(target, length, arguments.seed),
        None => fuzzer.all(length, arguments.seed),
    }
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let metadata = tidy::metadata()?;
        let root = tidy::path_in(&metadata, "workspace_root")?;
        let target = tidy::path_in(&metadata, "target_directory")?.join("fuzz");
        let host = host()?;
        // With `--target` the options are not those of build scripts and macros, which could not be linked.
        run(Command::new("cargo")
            .args(["build", "--package", "fuzz", "--features", "guided", "--profile", "fuzz", "--locked"])
            .args(["--target", &host, "--target-dir"])
            .arg(&target)
            .env("RUSTFLAGS", FLAGS.join(" ")))?;
        let program = target.join(&host).join("fuzz/fuzz");
        Ok(Self { program, home: root.join("fuzz"), kept: target })
    }

    fn all(&self, length: Length, seed: Option<u32>) -> Result<()> {
        self.find_planted()?;
        let targets = names(&self.home.join("corpus"))?;
        let failed: Vec<String> = targets
            .into_iter()
            .filter_map(|target| Some(format!("{:#}", self.explore(&target, length, seed).err()?)))
            .collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    }

    /// A fuzzer that finds nothing proves nothing until it has found something.
    fn find_planted(&self) -> Result<()> {
        let folder = self.folder(&["fresh", PLANTED], true)?;
        let (status, told) = self.watch(PLANTED, &[&folder], Length::Runs(PLANTED_RUNS), Some(1))?;
        ensure!(
            !status.success(),
            "the planted mistake was not found in {} runs: the guide is blind",
            told.runs
        );
        let is_found = told.last.iter().any(|line| line.contains("the planted mistake is found"));
        ensure!(is_found, "the planted mistake was not found:\n{}", told.tail());
        eprintln!("{PLANTED}: found after {} runs", told.runs);
        Ok(())
    }

    fn explore(&self, target: &str, length: Length, seed: Option<u32>) -> Result<()> {
        let seeds = self.home.join("corpus").join(target);
        ensure!(
            seeds.is_dir(),
            "there is no target {target}: {}",
            names(&self.home.join("corpus"))?.join(", ")
        );
        let own = match seed {
            Some(_) => self.folder(&["fresh", target], true)?,
            None => self.folder(&["corpus", target], false)?,
        };
        let begun = Instant::now();
        let before = names(&self.folder(&["artifacts", target], false)?)?;
        let (status, told) = self.watch(target, &[&own, &seeds], length, seed)?;
        if status.success() {
            let seconds = begun.elapsed().as_secs();
            eprintln!("{target}: {} runs in {seconds} s, {} branches", told.runs, told.branches);
            return Ok(());
        }
        eprintln!("{}", told.tail());
        let artifacts = self.folder(&["artifacts", target], false)?;
        let Some(input) = names(&artifacts)?.into_iter().find(|name| !before.contains(name)) else {
            bail!("{target} ended with {status}");
        };
        let input = artifacts.join(input);
        let input = input.strip_prefix(self.home.parent().unwrap_or(&self.home)).unwrap_or(&input).display();
        bail!("{target} shows a mistake; again: cargo x fuzz {target} --input {input}")
    }

    /// Runs a target to its end and shows how far it is.
    fn watch(
        &self,
        target: &str,
        folders: &[&Path],
        length: Length,
        seed: Option<u32>,
    ) -> Result<(ExitStatus, Told)> {
        let progress = Progress::new();
        progress.step(&format!("fuzz: {target}"));
        let mut command = Command::new(&self.program);
        command.arg(target).args([
            "-use_value_profile=1".to_owned(),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            format!("-rss_limit_mb={MEMORY_MB_MAX}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-artifact_prefix={}/", self.folder(&["artifacts", target], false)?.display()),
            format!("-seed={}", seed.unwrap_or(0)),
        ]);
        command.arg(match length {
            Length::Seconds(seconds) => format!("-max_total_time={seconds}"),
            Length::Runs(runs) => format!("-runs={runs}"),
        });
        let words = self.home.join("dictionaries").join(format!("{target}.dict"));
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        command.args(folders).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| self.program.display().to_string())?;
        let lines = BufReader::new(child.stderr.take().context("standard error of the fuzzer")?);
        let mut log = std::fs::File::create(self.folder(&["logs"], false)?.join(format!("{target}.log")))?;
        let mut told = Told::default();
        for line in lines.split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(log, "{line}")?;
            if told.hear(line) {
                progress.detail(format!("fuzz: {target}, {} runs, {} branches", told.runs, told.branches));
            }
        }
        Ok((child.wait()?, told))
    }

    /// A folder of what is kept; an empty one when it is to be `fresh`.
    fn folder(&self, path: &[&str], fresh: bool) -> Result<PathBuf> {
        let folder = path.iter().fold(self.kept.join("kept"), |folder, name| folder.join(name));
        if fresh && folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }
}

impl Told {
    /// Whether the line says how far the run is: `#4096  pulse  cov: 120 ft: 310 …`.
    fn hear(&mut self, line: String) -> bool {
        let mut words = line.split_whitespace();
        let runs = words.next().and_then(|word| word.strip_prefix('#')?.trim_end_matches(':').parse().ok());
        if let Some(runs) = runs {
            self.runs = runs;
            let branches = words.skip_while(|word| *word != "cov:").nth(1).and_then(|word| word.parse().ok());
            self.branches = branches.unwrap_or(self.branches);
        }
        if self.last.len() == LINES_SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
        runs.is_some()
    }

    fn tail(&self) -> String {
        self.last.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Names of what a folder holds, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// What the compiler calls this kind of machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{LINES_SHOWN, Told};

    #[test]
    fn what_the_fuzzer_says_about_its_progress_is_heard() {
        let mut told = Told::default();
        assert!(!told.hear("INFO: Running with entropic power schedule (0xFF, 100).".to_owned()));
        assert!(
            told.hear("#8192\tpulse  cov: 123 ft: 456 corp: 7/89b lim: 14 exec/s: 4096 rss: 40Mb".to_owned())
        );
        assert_eq!((told.runs, told.branches), (8_192, 123));
        assert!(told.hear("#9000: cov: 124".to_owned()));
        assert_eq!((told.runs, told.branches), (9_000, 124));
        for _ in 0..LINES_SHOWN {
            assert!(!told.hear("thread 'main' panicked".to_owned()));
        }
        assert_eq!(told.last.len(), LINES_SHOWN);
        assert!(told.tail().starts_with("thread"));
    }
}
