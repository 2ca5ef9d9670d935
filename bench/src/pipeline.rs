//! One isolated pipeline: an own database, own topics, and the release binary's roles as processes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use commerce_events::{DEAD_LETTER_SUFFIX, TOPICS};
use kafka_client::ClientSettings;
use kafka_client::admin::Admin;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

/// Where everything of one run lives.
pub(crate) struct Pipeline {
    name: String,
    server: PgConnectOptions,
    brokers: String,
    prefix: String,
}

/// A role's process; killed when dropped.
pub(crate) struct Role {
    child: Child,
}

/// What a process has used so far.
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// The most memory it has had resident, in MB.
    pub(crate) resident_max: f64,
}

impl Pipeline {
    /// Creates database and topics by `commerce migrate`.
    pub(crate) async fn create() -> Result<Self> {
        let variable =
            |name: &str| std::env::var(name).with_context(|| format!("{name}: run by `cargo x bench`"));
        let server =
            PgConnectOptions::from_str(&variable("COMMERCE_DATABASE_URL")?)?.disable_statement_logging();
        let brokers = variable("COMMERCE_KAFKA_BROKERS")?;
        let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
        let mut connection = PgConnection::connect_with(&server).await?;
        sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await?;
        let prefix = format!("{}-", name.replace('_', "-"));
        let pipeline = Self { name, server, brokers, prefix };
        let status = pipeline.command("migrate")?.status()?;
        ensure!(status.success(), "commerce migrate ended with {status}");
        Ok(pipeline)
    }

    /// A topic of this pipeline.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What stands in front of its topics and of its keys in the cache.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Its database's URL.
    pub(crate) fn database_url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// `host:port` list.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A new connection to its database.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.server.clone().database(&self.name)).await?)
    }

    /// Starts a role; its log goes to a file in the temporary directory.
    pub(crate) fn start(&self, role: &str) -> Result<Role> {
        self.start_with(role, &[])
    }

    /// Starts a role with settings of its own, named by their environment variables.
    pub(crate) fn start_with(&self, role: &str, settings: &[(&str, &str)]) -> Result<Role> {
        let log = std::fs::File::create(std::env::temp_dir().join(format!("{}-{role}.log", self.name)))?;
        let mut command = self.command(role)?;
        Role::spawn(command.envs(settings.iter().copied()).stdout(Stdio::null()).stderr(log))
    }

    /// Removes topics and database.
    pub(crate) async fn remove(self) -> Result<()> {
        let topics =
            TOPICS.map(|topic| ["", DEAD_LETTER_SUFFIX].map(|end| format!("{}{topic}{end}", self.prefix)));
        let names: Vec<&str> = topics.as_flattened().iter().map(String::as_str).collect();
        Admin::new(&ClientSettings::new(&self.brokers, "commerce-bench"))?.delete_topics(&names).await?;
        let mut connection = PgConnection::connect_with(&self.server).await?;
        let drop = format!("drop database {} with (force)", self.name);
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await?;
        Ok(())
    }

    /// A command of the binary.
    pub(crate) fn command(&self, role: &str) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .arg(role)
            .env("COMMERCE_DATABASE_URL", self.database_url())
            .env("COMMERCE_KAFKA_TOPIC_PREFIX", &self.prefix)
            .env("COMMERCE_CACHE_KEY_PREFIX", &self.prefix)
            .env("COMMERCE_MANAGEMENT_LISTEN", "127.0.0.1:0")
            .env("COMMERCE_LOG_FILTER", "warn")
            .stdin(Stdio::null());
        Ok(command)
    }
}

fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let binary = this.parent().context("no directory")?.join("commerce");
    ensure!(binary.exists(), "{} is not built", binary.display());
    Ok(binary)
}

impl Role {
    /// Starts a process.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        Ok(Self { child: command.spawn()? })
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = std::fs::read_to_string(proc.join("stat"))?;
        // Fields 14 and 15, counted after the command's name, which may hold spaces: utime and stime in ticks of 10 ms.
        let fields = stat.rsplit_once(')').context("stat")?.1;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = std::fs::read_to_string(proc.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kilobytes: f64 = resident.trim().trim_end_matches("kB").trim().parse()?;
        Ok(Usage { cpu: Duration::from_millis(ticks * 10), resident_max: kilobytes / 1_024.0 })
    }

    /// Fails when the process has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "a role ended: {ended:?}; its log is in {}", std::env::temp_dir().display());
        Ok(())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the process is ours to end either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
