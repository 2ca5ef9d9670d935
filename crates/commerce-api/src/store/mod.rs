//! The shop's SQL, and nothing else: one statement per function, on a connection that the caller gives.

pub(crate) mod catalog;
pub(crate) mod counts;
pub(crate) mod import;
pub(crate) mod likes;
pub(crate) mod orders;
pub(crate) mod products;
pub(crate) mod rankings;
mod recount;
mod session;
pub(crate) mod sessions;
pub(crate) mod stock;
pub(crate) mod tokens;

pub use recount::{ProductRecount, recount};
pub(crate) use session::Session;

use sqlx::error::DatabaseError;
use thiserror::Error;

/// Why the database did not do what was asked, by what the caller can do about it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Every connection is taken, and none came free in time.
    #[error("no database connection came free in time")]
    Busy,
    /// The server is away, going down, or gave up; the same request may succeed later.
    #[error("the database is away")]
    Away(#[source] sqlx::Error),
    /// A named constraint refused the change.
    #[error("constraint {constraint} refused the change")]
    Refused {
        /// The constraint.
        constraint: String,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
    /// Anything else: a bug, or a database that is not ours.
    #[error("the database refused a statement")]
    Statement(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether this constraint refused the change.
    pub(crate) fn is_refusal_of(&self, name: &str) -> bool {
        matches!(self, Self::Refused { constraint, .. } if constraint == name)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => Self::Away(error),
            sqlx::Error::Database(refusal) => match refusal.constraint() {
                Some(constraint) => Self::Refused { constraint: constraint.to_owned(), source: error },
                None if is_transient(refusal.as_ref()) => Self::Away(error),
                None => Self::Statement(error),
            },
            _ => Self::Statement(error),
        }
    }
}

impl From<runtime::database::PoolError> for StoreError {
    fn from(error: runtime::database::PoolError) -> Self {
        use deadpool::managed::{PoolError, TimeoutType};
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Busy,
            PoolError::Backend(error) => Self::Away(error),
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => Self::Away(sqlx::Error::PoolTimedOut),
        }
    }
}

/// By SQLSTATE class: connection (08), rollback (40), resources (53), not in the right state (55), operator (57),
/// system (58).
fn is_transient(error: &(dyn DatabaseError + 'static)) -> bool {
    let code = error.code().unwrap_or_default();
    ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
}
