//! Traffic and truth: seeded traffic with its own ledger, faults for the demo, readers of recorded data, the verifier.
//!
//! Invariant: what is expected never comes from what is being checked.

pub mod demo;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod ledger;
pub mod machine;
mod output;
pub mod replay;
pub mod traffic;
pub mod verify;
