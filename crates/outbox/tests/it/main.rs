//! The outbox against real servers.
#![cfg(test)]

mod append;
mod delivery;
mod durability;
mod fixture;
mod guards;
mod operators;
mod order;
mod outage;
mod overview;
mod ownership;
mod parking;
mod parking_owners;
mod proxy;
mod rebase;
mod restart;
mod retention;
mod retention_locks;
mod serialized;
mod sharing;
mod stalls;
mod ticks;
