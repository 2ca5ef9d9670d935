//! Against the real broker of `cargo x services`.
#![cfg(test)]

mod consumer;
mod producer;
mod reader;
mod topic_id;
