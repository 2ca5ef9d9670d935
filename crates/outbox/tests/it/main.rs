//! The outbox against real servers.
#![cfg(test)]

mod append;
mod delivery;
mod fixture;
mod guards;
mod operators;
mod order;
mod outage;
mod ownership;
mod parking;
mod proxy;
mod restart;
mod ticks;
