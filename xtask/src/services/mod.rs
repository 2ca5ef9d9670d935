//! Real Kafka, PostgreSQL and Redis on this machine, one of each, shared by demo, tests and benchmarks.
//!
//! Everything here may be called again at any time: what runs is left alone, what does not is started, and only processes that the
//! state file proves to be ours are ever stopped. A service whose variable is given is somebody else's and is used as it is.

pub(crate) mod cli;
mod fetch;
mod kafka;
mod log;
mod postgres;
mod postgres_server;
mod probe;
mod redis;
mod state;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::state::{Session, State};
use crate::process::{self, Process, Signal};

/// How many lines of a log are shown when its service fails.
const SHOWN_LINES: usize = 25;

/// The pause before PostgreSQL is started again while sessions of its killed predecessor are at work.
const OLD_SESSIONS_WAIT: Duration = Duration::from_millis(500);

/// A server that `cargo x services` can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    Kafka,
    Postgres,
    Redis,
}

impl Service {
    /// Slowest start first.
    pub(crate) const ALL: [Self; 3] = [Self::Kafka, Self::Postgres, Self::Redis];

    /// The variable that names this service to our programs, and that tells us to use a given one.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "COMMERCE_KAFKA_BROKERS",
            Self::Postgres => "COMMERCE_DATABASE_URL",
            Self::Redis => "COMMERCE_REDIS_URL",
        }
    }

    fn ready_limit(self) -> Duration {
        match self {
            // Recovery after a kill is part of it: log segments, write-ahead log.
            Self::Kafka | Self::Postgres => Duration::from_secs(120),
            Self::Redis => Duration::from_secs(10),
        }
    }

    fn stop_grace(self) -> Duration {
        match self {
            Self::Kafka | Self::Postgres => Duration::from_secs(30),
            Self::Redis => Duration::from_secs(5),
        }
    }

    /// The signal for an orderly stop that does not wait for clients to leave.
    fn stop_signal(self) -> Signal {
        match self {
            Self::Postgres => Signal::Interrupt,
            Self::Kafka | Self::Redis => Signal::Terminate,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Kafka => "kafka",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        })
    }
}

/// How a service is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Orderly,
    /// As by `kill -9`: the service gets no chance to write anything.
    Kill,
}

/// Where the services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceEnv {
    pub(crate) database_url: String,
    pub(crate) kafka_brokers: String,
    pub(crate) redis_url: String,
    /// Which of them are run here, not given by a variable.
    pub(crate) ours: Vec<Service>,
    /// Which of them this call has started.
    pub(crate) started: Vec<Service>,
}

impl ServiceEnv {
    fn new(state: &State, started: Vec<Service>) -> Self {
        let address = |service| given(state, service).unwrap_or_else(|| own_address(state, service));
        Self {
            database_url: address(Service::Postgres),
            kafka_brokers: address(Service::Kafka),
            redis_url: address(Service::Redis),
            ours: Service::ALL.into_iter().filter(|service| given(state, *service).is_none()).collect(),
            started,
        }
    }

    /// The variables that our programs read.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            (Service::Postgres.variable(), self.database_url.clone()),
            (Service::Kafka.variable(), self.kafka_brokers.clone()),
            (Service::Redis.variable(), self.redis_url.clone()),
        ]
    }
}

/// Starts whatever does not run and is not given; returns when all of them answer.
pub(crate) fn up() -> Result<ServiceEnv> {
    let mut session = Session::open()?;
    let ours = Service::ALL.into_iter().filter(|service| given(&session.state, *service).is_none());
    let mut launched = Vec::new();
    // All are launched before any is waited for, so that their starts overlap.
    for service in ours.collect::<Vec<_>>() {
        let stopped = session.state.running(service).is_none();
        if stopped {
            launch(&mut session, service)?;
        }
        launched.push((service, stopped));
    }
    let mut started = Vec::new();
    for (service, launched) in launched {
        if await_ready(&mut session, service, launched)? {
            let address = own_address(&session.state, service);
            session.progress.done(&format!("{service:<8}  up at {address}"));
            started.push(service);
        }
    }
    Ok(ServiceEnv::new(&session.state, started))
}

/// Stops every service of ours, and returns which of them ran. Ports and data stay.
pub(crate) fn down() -> Result<Vec<Service>> {
    down_in(&mut Session::open()?)
}

/// Stops every service of ours, and deletes what they stored.
pub(crate) fn wipe() -> Result<Vec<Service>> {
    let mut session = Session::open()?;
    let stopped = down_in(&mut session)?;
    session.wipe()?;
    Ok(stopped)
}

/// Starts one service of ours if it does not run; returns when it answers, and whether it had to be started.
pub(crate) fn start_one(service: Service) -> Result<bool> {
    let mut session = Session::open()?;
    refuse_given(&session, service, "start")?;
    let stopped = session.state.running(service).is_none();
    if stopped {
        launch(&mut session, service)?;
    }
    await_ready(&mut session, service, stopped)
}

/// Stops one service of ours; returns whether it ran.
pub(crate) fn stop_one(service: Service, stop: Stop) -> Result<bool> {
    let mut session = Session::open()?;
    refuse_given(&session, service, "stop")?;
    stop_in(&mut session, service, stop)
}

/// The address from the environment, if the variable names a service that is not ours.
fn given(state: &State, service: Service) -> Option<String> {
    foreign(std::env::var(service.variable()).ok(), &own_address(state, service))
}

/// A value that is merely our own was exported by `services env` in the same shell: the service is still ours to start and stop.
fn foreign(value: Option<String>, own: &str) -> Option<String> {
    value.filter(|value| !value.is_empty() && value != own)
}

fn refuse_given(session: &Session, service: Service, verb: &str) -> Result<()> {
    if given(&session.state, service).is_some() {
        bail!("{service} is given by {}; it is not ours to {verb}", service.variable());
    }
    Ok(())
}

fn own_address(state: &State, service: Service) -> String {
    match service {
        Service::Kafka => format!("127.0.0.1:{}", state.ports.kafka),
        Service::Postgres => postgres::url(state),
        Service::Redis => format!("redis://127.0.0.1:{}", state.ports.redis),
    }
}

fn answers(state: &State, service: Service) -> bool {
    match service {
        Service::Kafka => probe::kafka_answers(state.ports.kafka),
        Service::Postgres => probe::postgres_answers(&postgres::socket(state)),
        Service::Redis => probe::redis_answers(state.ports.redis),
    }
}

fn launch(session: &mut Session, service: Service) -> Result<()> {
    let ports = match service {
        Service::Kafka => vec![session.state.ports.kafka, session.state.ports.kafka_controller],
        Service::Postgres => vec![session.state.ports.postgres],
        Service::Redis => vec![session.state.ports.redis],
    };
    for port in ports {
        if !process::wait_until(Duration::from_secs(3), || probe::is_free(port)) {
            bail!(
                "port {port}, which {service} has used here since its first start, is taken by another process; stop that, \
                 or give up ports and data by `cargo x services down --wipe`"
            );
        }
    }
    let mut command = match service {
        Service::Kafka => kafka::prepare(session)?,
        Service::Postgres => postgres::prepare(session)?,
        Service::Redis => redis::prepare(session)?,
    };
    session.progress.step(&format!("starting {service}"));
    let file = session.paths.log(service);
    log::rotate(&file)?;
    let process = Process::spawn_detached(&mut command, &file)?;
    // At once: if this program is interrupted while it waits, the next run still knows its processes.
    session.record(service, Some(process))
}

/// Waits until the service answers. `launched` says whether this call has started it; one that was found running and ends meanwhile
/// (it was just killed, or is) is started. Returns whether this call has started it in the end.
fn await_ready(session: &mut Session, service: Service, mut launched: bool) -> Result<bool> {
    if !answers(&session.state, service) {
        session.progress.step(&format!("waiting for {service}"));
    }
    let log = session.paths.log(service);
    let deadline = Instant::now() + service.ready_limit();
    loop {
        let state = &session.state;
        let left = deadline.saturating_duration_since(Instant::now());
        process::wait_until(left, || state.running(service).is_none() || answers(state, service));
        let complaint = match (state.running(service).is_some(), answers(state, service)) {
            (true, true) => return Ok(launched),
            (true, false) => "runs but does not answer",
            (false, _) if !launched => {
                launch(session, service)?;
                launched = true;
                continue;
            }
            (false, _)
                if service == Service::Postgres && !left.is_zero() && postgres::meets_old_sessions(&log) =>
            {
                process::wait_until(OLD_SESSIONS_WAIT, || false);
                launch(session, service)?;
                continue;
            }
            (false, _) => "ended while starting",
        };
        bail!("{service} {complaint}; the end of {}:\n{}", log.display(), log::tail(&log, SHOWN_LINES));
    }
}

fn down_in(session: &mut Session) -> Result<Vec<Service>> {
    let running: Vec<Service> =
        Service::ALL.into_iter().filter(|service| session.state.running(*service).is_some()).collect();
    for service in &running {
        stop_in(session, *service, Stop::Orderly)?;
    }
    Ok(running)
}

fn stop_in(session: &mut Session, service: Service, stop: Stop) -> Result<bool> {
    let Some(process) = session.state.running(service) else {
        return Ok(false);
    };
    session.progress.step(&format!("stopping {service}"));
    let signal = match stop {
        Stop::Orderly => service.stop_signal(),
        Stop::Kill => Signal::Kill,
    };
    let by_itself = process.stop(signal, service.stop_grace())?;
    if stop == Stop::Orderly && !by_itself {
        session
            .progress
            .done(&format!("{service} did not stop within {:?} and was killed", service.stop_grace()));
    }
    session.record(service, None)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_counts_as_given_unless_it_is_empty_or_our_own() {
        let own = "127.0.0.1:20001";
        assert_eq!(foreign(None, own), None);
        assert_eq!(foreign(Some(String::new()), own), None);
        assert_eq!(foreign(Some(own.to_owned()), own), None);
        assert_eq!(foreign(Some("elsewhere:9092".to_owned()), own).as_deref(), Some("elsewhere:9092"));
    }

    #[test]
    fn a_service_is_written_alike_on_the_command_line_and_in_the_state_file() {
        for service in Service::ALL {
            let json = serde_json::to_string(&service).unwrap();
            assert_eq!(json, format!("\"{service}\""));
            assert_eq!(Service::from_str(&service.to_string(), false).unwrap(), service);
        }
    }

    #[test]
    fn the_variables_carry_the_three_addresses() {
        let environment = ServiceEnv {
            database_url: "d".to_owned(),
            kafka_brokers: "k".to_owned(),
            redis_url: "r".to_owned(),
            ours: Service::ALL.to_vec(),
            started: Vec::new(),
        };
        let expected =
            [("COMMERCE_DATABASE_URL", "d"), ("COMMERCE_KAFKA_BROKERS", "k"), ("COMMERCE_REDIS_URL", "r")];
        assert_eq!(environment.variables(), expected.map(|(name, value)| (name, value.to_owned())));
    }
}
