//! `cargo x`: what a developer does with this repository, one subcommand each.
//!
//! It stays light on purpose (no async runtime, no client libraries), so that it compiles in seconds on a fresh machine.

mod process;
mod progress;
mod services;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo x", about = "The repository's tasks", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Real Kafka, PostgreSQL and Redis on this machine, under `.run/`
    #[command(subcommand)]
    Services(services::cli::ServicesTask),
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Services(task) => services::cli::run(task),
    }
}
