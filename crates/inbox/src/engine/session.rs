//! One worker's connection to the database, and what it has learnt from it.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::failure::{Failure, engine};
use crate::store::batch::prepare;
use crate::store::source::{find_source, insert_source};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Lives as long as its worker; connects when needed.
pub(crate) struct Session {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    sources: HashMap<String, i16>,
}

impl Session {
    /// `transaction_timeout` is also the server's limit for a transaction whose client says nothing: a process that is frozen
    /// in the middle of one would otherwise keep its partition's row locked, and all its successors waiting, until it
    /// is thawed.
    pub(crate) fn new(options: &PgConnectOptions, transaction_timeout: Duration) -> Self {
        let limit = transaction_timeout.as_millis().max(1).to_string();
        let options = session_options(options).options([("idle_in_transaction_session_timeout", limit)]);
        Self { options, connection: None, sources: HashMap::new() }
    }

    /// The connection, opened if there is none.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, Failure> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.options).await.map_err(connecting)?);
        }
        self.connection.as_mut().ok_or_else(|| connecting(sqlx::Error::PoolClosed))
    }

    /// The connection for a batch, whose transaction begins and ends within messages of several statements.
    ///
    /// sqlx looks into none of them. It is told of a transaction once, so that it counts one for the life of the connection: a
    /// projection that begins one of its own gets a savepoint, and not a warning and a commit in the middle of the batch.
    ///
    /// Its commits do not wait for the disk: what the server loses in a crash, offset and effect together, is still in the log and
    /// read again (docs/adr/0014).
    pub(crate) async fn batch_connection(&mut self) -> Result<&mut PgConnection, Failure> {
        let connection = self.connection().await?;
        if !connection.is_in_transaction() {
            std::mem::forget(connection.begin().await.map_err(engine("begin"))?);
            let ready = sqlx::raw_sql("rollback; set synchronous_commit = off").execute(&mut *connection);
            ready.await.map_err(engine("set up"))?;
            prepare(connection).await.map_err(engine("prepare"))?;
        }
        Ok(connection)
    }

    /// Ends a transaction of which a statement was refused.
    pub(crate) async fn roll_back(&mut self) {
        if let Some(connection) = &mut self.connection
            && roll_back(connection).await.is_err()
        {
            self.disconnect();
        }
    }

    /// Closes the connection, in whatever state it is. What was learnt may come from another server's past.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.sources.clear();
    }

    /// The number of each source; `None` for those that are one too many.
    pub(crate) async fn intern(
        &mut self,
        sources: &[String],
        sources_max: u32,
    ) -> Result<Vec<Option<i16>>, Failure> {
        let mut numbers = Vec::with_capacity(sources.len());
        for source in sources {
            let number = match self.sources.get(source) {
                Some(number) => Some(*number),
                None => self.learn(source, sources_max).await?,
            };
            numbers.push(number);
        }
        Ok(numbers)
    }

    /// Outside of the batch's transaction: a source that is added stays, whatever becomes of the batch.
    async fn learn(&mut self, source: &str, sources_max: u32) -> Result<Option<i16>, Failure> {
        let interning = |error| Failure::Engine { doing: "interning a source", source: error };
        let connection = self.connection().await?;
        let mut number = find_source(connection, source).await.map_err(interning)?;
        if number.is_none() {
            insert_source(connection, source, i64::from(sources_max)).await.map_err(interning)?;
            number = find_source(connection, source).await.map_err(interning)?;
        }
        if let Some(number) = number {
            self.sources.insert(source.to_owned(), number);
        }
        Ok(number)
    }
}

fn connecting(source: sqlx::Error) -> Failure {
    Failure::Engine { doing: "connecting", source }
}

/// Ends a transaction that sqlx may not know of.
pub(crate) async fn roll_back(connection: &mut PgConnection) -> Result<(), Failure> {
    sqlx::raw_sql("rollback").execute(connection).await.map_err(engine("rollback"))?;
    Ok(())
}

/// Connects, within a limit.
pub(crate) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Plans are made for the arrays at hand: one that was made while the tables were empty would read them whole later.
pub(crate) fn session_options(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().disable_statement_logging().options([("plan_cache_mode", "force_custom_plan")])
}
