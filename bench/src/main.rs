//! The benchmarks: real servers, the release binary as its own processes, and beside each figure its ceiling.
//!
//! Figures are medians of several runs; the two sides of a ratio are run in turn within one call. Deliberately absent:
//! assertions. A bar is judged by who reads the table.

mod api;
mod backlog;
mod ceilings;
mod drain;
mod figures;
mod latency;
mod pipeline;
mod relay;
mod streamer;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// As in the binary that is measured, so that client and ceiling allocate alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cargo x bench", about = "Measures the pipeline on this machine")]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// What buyers wait for: orders, likes and pages over HTTP, beside their ceilings
    Api(api::Arguments),
    /// A bare handler for a product's page, the ceiling of `api`
    #[command(hide = true)]
    BarePage(api::BarePageArguments),
    /// Drain a prepared backlog through relay and streamer, beside bare producer and consumer
    Drain(drain::Arguments),
    /// commit→visible at a steady rate, and what relay and streamer use when idle
    Latency(latency::Arguments),
    /// What the outbox promises: draining, takeover, latency, cost for writers, memory, idling
    Relay(relay::Arguments),
    /// What the inbox promises: draining clean and dirty topics, the price of ids, redriving
    Streamer(streamer::Arguments),
}

/// What every benchmark takes.
#[derive(Args)]
pub(crate) struct Common {
    /// Runs; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Write the figures as JSON; `-` for standard output
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().benchmark {
        Benchmark::Api(arguments) => api::run(&arguments).await,
        Benchmark::BarePage(arguments) => api::serve_bare_page(arguments).await,
        Benchmark::Drain(arguments) => drain::run(&arguments).await,
        Benchmark::Latency(arguments) => latency::run(&arguments).await,
        Benchmark::Relay(arguments) => relay::run(&arguments).await,
        Benchmark::Streamer(arguments) => streamer::run(&arguments).await,
    }
}
