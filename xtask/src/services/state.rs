//! What is remembered between two runs, in `.run/state.json`: ports, places, and which processes are ours.
//!
//! A [`Session`] holds the lock `.run/lock`, so that only one run at a time starts or stops anything.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Service, postgres, probe};
use crate::process::Process;
use crate::progress::Progress;

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Everything that running leaves behind; ignored by git.
    pub(crate) run: PathBuf,
}

impl Paths {
    /// The repository that `cargo x` was called in.
    pub(crate) fn of_this_repository() -> Result<Self> {
        // Cargo sets the variable also when it runs a program; the value at compile time is for a direct call of the binary.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest.join("..").canonicalize().with_context(|| manifest.display().to_string())?;
        Ok(Self { run: root.join(".run"), root })
    }

    pub(crate) fn log(&self, service: Service) -> PathBuf {
        self.run.join("logs").join(format!("{service}.log"))
    }

    fn state(&self) -> PathBuf {
        self.run.join("state.json")
    }
}

/// One port each, chosen once and kept, so that the clients' addresses stay valid over a stop and a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) kafka: u16,
    pub(crate) kafka_controller: u16,
    pub(crate) postgres: u16,
    pub(crate) redis: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The repository this state belongs to: a copied `.run` must not take the original's processes for its own.
    root: PathBuf,
    pub(crate) ports: Ports,
    /// Data, socket and unpacked server of PostgreSQL; not always under `.run`, see [`postgres::choose_home`].
    pub(crate) postgres_home: PathBuf,
    pub(crate) processes: BTreeMap<Service, Process>,
}

impl State {
    fn choose(paths: &Paths) -> Result<Self> {
        let [kafka, kafka_controller, postgres, redis] = probe::free_ports(&paths.root)?;
        Ok(Self {
            root: paths.root.clone(),
            ports: Ports { kafka, kafka_controller, postgres, redis },
            postgres_home: postgres::choose_home(paths)?,
            processes: BTreeMap::new(),
        })
    }

    /// The state of an earlier run, if there is one and it is about this repository.
    pub(crate) fn load(paths: &Paths) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(paths.state()) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(paths.state().display().to_string()),
        };
        let state: Self = serde_json::from_str(&text).with_context(|| {
            format!("{} is unreadable; stop what it names, then delete it", paths.state().display())
        })?;
        Ok((state.root == paths.root).then_some(state))
    }

    /// Replaces the file as a whole, so that a crash leaves the old or the new state.
    fn save(&self, paths: &Paths) -> Result<()> {
        let new = paths.run.join("state.json.new");
        std::fs::write(&new, serde_json::to_string_pretty(self)?)
            .with_context(|| new.display().to_string())?;
        std::fs::rename(&new, paths.state()).context("cannot replace the state file")
    }

    /// The process of this service, if it runs.
    pub(crate) fn running(&self, service: Service) -> Option<&Process> {
        self.processes.get(&service).filter(|process| process.is_running())
    }
}

/// The right to start and stop services, held until it is dropped.
pub(crate) struct Session {
    pub(crate) paths: Paths,
    pub(crate) state: State,
    pub(crate) progress: Progress,
    _lock: File,
}

impl Session {
    /// Waits for the lock, then loads the state, or chooses ports and places if there is none.
    pub(crate) fn open() -> Result<Self> {
        let paths = Paths::of_this_repository()?;
        let progress = Progress::new();
        create_open_dir(&paths.run)?;
        create_open_dir(&paths.run.join("logs"))?;
        let lock = lock(&paths.run.join("lock"), &progress)?;
        let state = match State::load(&paths)? {
            Some(state) => state,
            None => fresh_state(&paths, &progress)?,
        };
        Ok(Self { paths, state, progress, _lock: lock })
    }

    pub(crate) fn record(&mut self, service: Service, process: Option<Process>) -> Result<()> {
        match process {
            Some(process) => self.state.processes.insert(service, process),
            None => self.state.processes.remove(&service),
        };
        self.state.save(&self.paths)
    }

    /// Deletes what the services stored, their logs, ports and places.
    pub(crate) fn wipe(self) -> Result<()> {
        remove_dir(&self.state.postgres_home)?;
        remove_data(&self.paths)?;
        std::fs::remove_file(self.paths.state()).context("cannot delete the state file")
    }
}

fn fresh_state(paths: &Paths, progress: &Progress) -> Result<State> {
    if paths.state().exists() {
        progress.done("the services' data was copied from another repository: beginning anew");
        remove_data(paths)?;
    }
    let state = State::choose(paths)?;
    state.save(paths)?;
    Ok(state)
}

fn remove_data(paths: &Paths) -> Result<()> {
    for name in ["kafka", "postgres", "redis", "logs"] {
        remove_dir(&paths.run.join(name))?;
    }
    create_open_dir(&paths.run.join("logs"))
}

fn lock(path: &Path, progress: &Progress) -> Result<File> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open {} (was it created by another user?)", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress.step("waiting for another `cargo x services`"),
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock"),
    }
    file.lock().context("cannot lock")?;
    Ok(file)
}

/// Creates a directory that other users may enter whatever the umask: PostgreSQL may have to run as one of them.
pub(crate) fn create_open_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))
        .with_context(|| path.display().to_string())
}

/// Deletes a directory if it exists.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// FNV-1a: the same text gives the same number on every machine and with every compiler.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(name: &str) -> Paths {
        let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let paths = Paths { run: root.join(".run"), root };
        std::fs::create_dir_all(&paths.run).unwrap();
        paths
    }

    fn state(paths: &Paths) -> State {
        State {
            root: paths.root.clone(),
            ports: Ports { kafka: 20_001, kafka_controller: 20_002, postgres: 20_003, redis: 20_004 },
            postgres_home: paths.run.join("postgres"),
            processes: BTreeMap::new(),
        }
    }

    #[test]
    fn a_saved_state_is_loaded_as_it_was() {
        let paths = paths("state");
        assert_eq!(State::load(&paths).unwrap(), None);
        let mut state = state(&paths);
        state.processes.insert(Service::Kafka, Process::find(std::process::id()).unwrap());
        state.save(&paths).unwrap();
        let loaded = State::load(&paths).unwrap().unwrap();
        assert_eq!(loaded, state);
        assert!(loaded.running(Service::Kafka).is_some());
        assert!(loaded.running(Service::Redis).is_none());
        std::fs::remove_dir_all(&paths.root).unwrap();
    }

    #[test]
    fn a_state_that_was_copied_with_the_repository_is_not_ours() {
        let original = paths("original");
        let copy = paths("copy");
        state(&original).save(&copy).unwrap();
        assert_eq!(State::load(&copy).unwrap(), None);
        std::fs::remove_dir_all(&original.root).unwrap();
        std::fs::remove_dir_all(&copy.root).unwrap();
    }

    #[test]
    fn an_unreadable_state_is_an_error_and_not_a_fresh_start() {
        let paths = paths("unreadable");
        std::fs::write(paths.state(), "{").unwrap();
        assert!(State::load(&paths).is_err());
        std::fs::remove_dir_all(&paths.root).unwrap();
    }

    #[test]
    fn the_digest_is_the_published_fnv_1a() {
        assert_eq!(digest(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
