//! Nothing is published before it is flushed: a commit that does not wait for the disk is visible before, and a crash of
//! the server takes it back.
//!
//! What waits for the disk is flushed when it is visible, so for ordinary writers the first look suffices: the log ends a
//! little later, at changes that are not committed yet, and the commits of others flush those within a moment.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use super::session::SessionError;
use crate::store::window::{connect_flusher, flush_log, is_flushed};

/// So many looks are given to the commits of others before the log is flushed for the relay alone: without any, the
/// server's own writer would let it wait for `wal_writer_delay` and more. There is no pause between them: the way to the
/// server and back is one, and the timer's would be longer than most flushes take.
const LOOKS: usize = 4;
/// Longest wait for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the server's log to be flushed.
pub(crate) struct Flush {
    options: PgConnectOptions,
    /// Of its own, because the reader's is busy with rows; opened when it is first needed.
    connection: Option<PgConnection>,
}

impl Flush {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None }
    }

    /// Returns when the log is flushed up to `log_end`.
    pub(crate) async fn wait_for(&mut self, log_end: &str) -> Result<(), SessionError> {
        match tokio::time::timeout(PATIENCE, self.flushed(log_end)).await {
            Ok(flushed) => flushed.map_err(SessionError::Database),
            Err(_) => Err(SessionError::Silent("the flush of the log")),
        }
    }

    async fn flushed(&mut self, log_end: &str) -> Result<(), sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(connect_flusher(&self.options).await?),
        };
        for _ in 0..LOOKS {
            if is_flushed(connection, log_end).await? {
                return Ok(());
            }
        }
        flush_log(connection).await
    }
}
