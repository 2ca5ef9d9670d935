//! One file for each subcommand.

pub(crate) mod config;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod migrate;
pub(crate) mod offsets;
pub(crate) mod operator;
pub(crate) mod outbox;
pub(crate) mod output;
pub(crate) mod replay;
pub(crate) mod terminal;
pub(crate) mod token;
pub(crate) mod verify;
