//! All SQL of this crate: free functions, one statement each.

pub(crate) mod append;
pub(crate) mod backlog;
pub(crate) mod guard;
pub(crate) mod overview;
pub(crate) mod parked;
pub(crate) mod parked_admin;
pub(crate) mod rebase;
pub(crate) mod relay;
pub(crate) mod segment;
pub(crate) mod shard;
pub(crate) mod tick;
pub(crate) mod window;

/// Whether the server answered with this SQLSTATE.
pub(crate) fn has_code(error: &sqlx::Error, code: &str) -> bool {
    let answered = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    answered.is_some_and(|found| found == code)
}
