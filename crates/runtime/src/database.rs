//! A pool of PostgreSQL connections without a lock on the hot path.
//!
//! A request whose future is dropped in the middle of a transaction leaves the connection usable: the driver rolls
//! back before the next statement (test `a_cancelled_request_leaves_no_open_transaction`).

use std::str::FromStr;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, QueueMode, RecycleResult};
use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use thiserror::Error;

/// A connection that was not pinged for longer is pinged before it is handed out, so that a restarted server costs at
/// most the requests of this long.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// `[database]` and its like.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://user@host:port/name`; `?host=/socket/dir` for a Unix socket.
    pub url: String,
    /// Connections of one process's pool.
    pub connections_max: usize,
    /// How long a request waits for a connection.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// Server-side limit of one statement on pooled connections.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
}

/// Why a connection could not be had.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The URL cannot be read; the text never repeats the URL, it may hold a password.
    #[error("database.url is not a PostgreSQL URL")]
    Url(#[source] sqlx::Error),
    /// The pool cannot be built.
    #[error("database pool cannot be built")]
    Build(#[source] deadpool::managed::BuildError),
}

/// Connect options of `url`, with `application` as the name that operators see in `pg_stat_activity`.
///
/// # Errors
/// [`DatabaseError::Url`] when the URL cannot be read.
pub fn connect_options(url: &str, application: &str) -> Result<PgConnectOptions, DatabaseError> {
    Ok(PgConnectOptions::from_str(url)
        .map_err(DatabaseError::Url)?
        .application_name(application)
        .disable_statement_logging())
}

/// Creates connections for [`Pool`].
#[derive(Debug)]
pub struct Manager {
    options: PgConnectOptions,
}

/// A pooled connection with the moment it was last found alive.
#[derive(Debug)]
pub struct Pooled {
    connection: PgConnection,
    checked: Instant,
}

impl std::ops::Deref for Pooled {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl std::ops::DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl managed::Manager for Manager {
    type Type = Pooled;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Pooled, sqlx::Error> {
        let connection = PgConnection::connect_with(&self.options).await?;
        Ok(Pooled { connection, checked: Instant::now() })
    }

    async fn recycle(&self, pooled: &mut Pooled, _metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        // Not by the time it was last used: a busy connection that broke would never be looked at.
        if pooled.checked.elapsed() > PING_INTERVAL {
            pooled.connection.ping().await?;
            pooled.checked = Instant::now();
        }
        Ok(())
    }
}

/// The pool; cheap to clone.
pub type Pool = managed::Pool<Manager>;
/// Why [`Pool::get`] gave no connection.
pub type PoolError = managed::PoolError<sqlx::Error>;

/// Builds the pool of `settings`; connects lazily.
///
/// # Errors
/// [`DatabaseError`] when the URL or a size cannot be used.
pub fn pool(settings: &DatabaseSettings, application: &str) -> Result<Pool, DatabaseError> {
    let statement_timeout = format!("{}ms", settings.statement_timeout.as_millis());
    let options =
        connect_options(&settings.url, application)?.options([("statement_timeout", statement_timeout)]);
    Pool::builder(Manager { options })
        .max_size(settings.connections_max)
        // The connection that was used last: its server process has plans and catalogs at hand. One that is used in turn with others
        // finds them pushed out of the core's caches (a hot product sells a tenth faster).
        .queue_mode(QueueMode::Lifo)
        .wait_timeout(Some(settings.acquire_timeout))
        .create_timeout(Some(settings.acquire_timeout))
        .recycle_timeout(Some(settings.acquire_timeout))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(DatabaseError::Build)
}
