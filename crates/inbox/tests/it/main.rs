//! The streamer on real servers, with a projection that writes down every effect.

#![cfg(test)]

mod balance;
mod batch_transaction;
mod dead_letters;
mod exactly_once;
mod failures;
mod fixture;
mod flood;
mod lateness;
mod letter_desk;
mod positions;
mod proxy;
mod rebalances;
mod redrive_bounds;
mod redrives;
mod repartition;
mod retention;
mod strict;
mod strict_races;
