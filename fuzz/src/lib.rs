//! Fuzz targets for everything that turns bytes from outside into values.
//!
//! A target is a function of bytes that must not panic, and asserts what holds for any input: what is read can be written and read again,
//! two readers agree, a refusal is one of ours. `cargo x fuzz` runs them guided by coverage, in a build that counts what it passes;
//! `cargo test -p fuzz` replays the inputs under `corpus/` in an ordinary one. Which target covers what: docs/how-to/fuzz.md.
//! Deliberately absent: I/O. What a target reaches, it reaches without a server.

// The binary has no library: what it reads and shows is compiled in from its files.
mod cmd;
#[path = "../../crates/commerce/src/config.rs"]
#[expect(dead_code, reason = "of the binary's settings only those are used that a target reaches")]
mod config;
mod targets;

pub use targets::{TARGETS, Target, find};
