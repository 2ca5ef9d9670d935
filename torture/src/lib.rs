//! Torture: real servers, real processes, everything that can go wrong at once, and an oracle that was written inside the
//! same transactions as the events.
//!
//! A harness that finds nothing proves nothing until it has found something: the same harness must catch relays that are
//! wrong on purpose (`outbox::Variant`), and consumers that are (`inbox::Variant`). Deliberately absent: any word of commerce.

pub mod inbox;
pub mod outbox;
mod process;
mod server;

pub use server::Server;
