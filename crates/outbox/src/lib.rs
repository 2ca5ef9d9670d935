//! A transactional outbox: events are rows of the business transaction, and a relay publishes them to Kafka.
//!
//! Invariants: an event exists if and only if its transaction committed; every committed event is published, at least
//! once, with the same id; events of one key are published in the commit order of the writers that serialise on that
//! key. How: the table is append-only, and the relay reads the difference of two snapshots, ordered by id (README.md).
//! Deliberately absent: any notion of what the events mean, and `NOTIFY`.

mod append;
mod backlog;
mod event;
pub mod headers;
pub mod metrics;
mod nudge;
pub mod overview;
pub mod parked;
mod rebase;
pub mod relay;
pub mod retention;
mod store;
pub mod ticker;

pub use append::{AppendError, SERIALIZED_KEYS_MAX, append, append_serialized};
pub use backlog::{Backlog, backlog};
pub use event::{AppendLimits, BadEvent, NewEvent};
pub use nudge::Nudge;
pub use overview::Overview;
pub use rebase::{Rebase, RebaseError, RebaseMode, rebase};
pub use relay::{RelayError, RelaySettings, RelayStatus};
pub use retention::{RetentionSettings, RetentionStatus};
pub use ticker::TickerSettings;

/// The schema `outbox`; its migrations are recorded inside it, apart from those of the service.
#[must_use]
pub fn migrations() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("outbox");
    migrator.dangerous_set_table_name("outbox._migrations");
    migrator
}

/// Shards of the outbox: units of ownership.
pub const SHARDS: u16 = 16;

/// Segments of the outbox, one for each hour in turn: units of retention.
pub const SEGMENTS: i16 = 4;
