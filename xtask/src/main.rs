//! `cargo x`: what a developer does with this repository, one subcommand each.
//!
//! It stays light on purpose (no async runtime, no client libraries), so that it compiles in seconds on a fresh machine.

mod fuzz;
mod process;
mod progress;
mod services;
mod tasks;
mod tidy;
mod tools;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

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
    /// Run the demo: the pipeline under faults, with a proof of its counts
    Demo(Rest),
    /// Run all tests against real services
    Test(Rest),
    /// Measure
    Bench(Rest),
    /// Try to make outbox and inbox lose, double or reorder an event
    Torture(Rest),
    /// Feed whatever reads bytes from outside with what a fuzzer makes up, guided by coverage
    Fuzz(fuzz::Arguments),
    /// Check the rules about the repository's shape
    Tidy,
    /// Everything that must hold before a change lands
    Ci,
}

/// Arguments that are handed on as they are.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Services(task) => services::cli::run(task),
        Task::Demo(rest) => tasks::demo(&rest.arguments),
        Task::Test(rest) => tasks::test(&rest.arguments),
        Task::Bench(rest) => tasks::bench(&rest.arguments),
        Task::Torture(rest) => tasks::torture(&rest.arguments),
        Task::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Task::Tidy => tidy::check(),
        Task::Ci => tasks::ci(),
    }
}
