//! Against the real broker of `cargo x services`.
#![cfg(test)]

mod producer;
mod reader;
mod topic_id;
