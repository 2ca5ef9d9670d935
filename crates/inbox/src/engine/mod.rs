//! From records to committed effects.
//!
//! Pure: `board` (the life of every partition), `identity`, `plan`, `claims`, `order`, `queue`, `span`, `spans` (a batch and how far it is), `failure`, `flood`. With I/O:
//! `session` (one worker's database connection), `memory` (what was handled), `transaction` (one batch), `work` (a batch to
//! its end), `release` (what waited behind a dead letter), `loader` (where partitions begin), `conductor` (the loop that does
//! what the board decides).

pub(crate) mod board;
pub(crate) mod claims;
pub(crate) mod conductor;
pub(crate) mod failure;
pub(crate) mod flood;
pub(crate) mod identity;
pub(crate) mod loader;
pub(crate) mod memory;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod queue;
pub(crate) mod release;
pub(crate) mod session;
#[cfg(test)]
mod simulation;
pub(crate) mod span;
pub(crate) mod spans;
pub(crate) mod transaction;
pub(crate) mod work;
