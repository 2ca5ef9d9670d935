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
mod ownership;
mod parking;
mod proxy;
mod rebase;
mod restart;
mod serialized;
mod sharing;
mod stalls;
mod ticks;
