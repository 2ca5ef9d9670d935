//! How much waits to be published, for operators and tests.

use std::time::Duration;

use sqlx::PgConnection;

use crate::store;

/// What is committed and, by the stored positions, not yet published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Events.
    pub rows: u64,
    /// Time since the oldest of them happened (`occurred_at`); `None` when there is none.
    pub oldest_age: Option<Duration>,
}

/// Counts the backlog. Reads every unpublished row's index entry: for operators and tests, not for a hot path.
///
/// # Errors
/// The database's failure.
pub async fn backlog(connection: &mut PgConnection) -> Result<Backlog, sqlx::Error> {
    let (rows, oldest_age_seconds) = store::backlog::load_backlog(connection).await?;
    Ok(Backlog {
        rows: u64::try_from(rows).unwrap_or(0),
        // An event may carry a time that lies ahead of the database's clock: it has no age yet.
        oldest_age: oldest_age_seconds.map(|age| Duration::try_from_secs_f64(age).unwrap_or_default()),
    })
}
