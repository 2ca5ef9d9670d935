//! Process plumbing for every role: configuration, clock, database pool, lifecycle, telemetry, management HTTP.
//!
//! Invariant: nothing here knows what the processes do. A role hands in its tasks and health checks and gets back an
//! exit status. Deliberately absent: business settings (each crate owns its own), storage, Kafka.

pub mod clock;
pub mod config;
pub mod database;
pub mod lifecycle;
pub mod management;
pub mod telemetry;

pub use clock::{Clock, SystemClock};
pub use lifecycle::{Lifecycle, TaskKind};
