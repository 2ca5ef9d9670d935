//! The consumers: events folded into the counts and states that buyers see.
//!
//! Invariant: a projection writes only in the transaction that moves the offset (crate `inbox`), so an event counts
//! exactly once. A new consumer is one file in `projections/` and one line in [`start`].
//! Deliberately absent: fencing, idempotency, retries and dead letters, which are `inbox`'s.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hourly;
mod invalidator;
mod metrics;
mod projections;
mod rounds;
mod store;
mod streamer;
mod sweeper;

pub use hourly::HourlySettings;
pub use metrics::describe as describe_metrics;
pub use projections::metrics::METRICS_GROUP;
pub use projections::stock::STOCK_GROUP;
pub use store::{migrations, owed_intents};
pub use streamer::{CONSUMERS, StreamerError, StreamerParts, start};
pub use sweeper::SweeperSettings;
