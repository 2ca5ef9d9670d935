//! A transactional inbox: a batch consumer whose effects on PostgreSQL happen exactly once.
//!
//! Invariants: the offset, what was handled, the effect and the dead letters of a batch commit together or not at all;
//! a batch is written only if the offset is where its owner believes it to be; an event has its effect once, or is a
//! dead letter. How: README.md. Deliberately absent: any notion of what the events mean.

mod age;
pub mod dead_letter;
mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod kill;
pub mod metrics;
pub mod offsets;
pub mod progress;
mod projection;
pub mod retention;
mod settings;
mod status;
mod stop_reason;
mod store;
pub mod streamer;

pub use kill::kill_point;
pub use projection::{Decision, OrderingMode, Projection, RecordView, Refusal};
pub use settings::{BlockedLimits, ConsumerSettings, FloodLimits, SettingsError, UnknownTypes};
pub use status::{PartitionStatus, StreamerStatus};
pub use stop_reason::StopReason;
pub use streamer::StreamerError;

/// The schema `inbox`; its migrations are recorded inside it, apart from those of the service.
#[must_use]
pub fn migrations() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("inbox");
    migrator.dangerous_set_table_name("inbox._migrations");
    migrator
}
