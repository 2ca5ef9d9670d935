//! The harness against real servers.
#![cfg(test)]

mod inbox;
mod outbox;
