//! `relay`: the figures that the outbox promises, one part each.
//!
//! Each part has a pipeline of its own and can be run alone (`--only`).

mod backlog_cost;
mod drain;
mod empty_poll;
mod latency;
mod takeover;
mod writers;

use anyhow::Result;
use clap::ValueEnum;

use crate::Common;
use crate::backlog::PAYLOAD_BYTES;
use crate::drain::PARTITIONS;
use crate::figures::Figures;

/// `cargo x bench relay`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Events of the backlog that one and two relays drain
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Events of the large backlog, for memory and cost
    #[arg(long, default_value_t = 10_000_000)]
    backlog: u64,
    /// Transactions per second for the latency
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Seconds under that rate, once alone and once beside an open transaction
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Clients that write with and without an event
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Parts to run; all of them when none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    #[command(flatten)]
    common: Common,
}

/// What can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `relay.drain`, `relay.drain_ratio`, `relay.two_relays_ratio`
    Drain,
    /// `relay.takeover_seconds`
    Takeover,
    /// `relay.latency_p50|p99|cpu`, `relay.foreign_tx_ratio`
    Latency,
    /// `outbox.append_ratio`
    Writers,
    /// `relay.rss_backlog`, `relay.backlog_cost_ratio`, `relay.rss_transaction`
    Backlog,
    /// `relay.empty_poll_us`, `relay.idle_cpu`
    EmptyPoll,
}

/// Runs the parts in turn and prints the figures.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = Figures::default();
    figures.setting("events", &arguments.events);
    figures.setting("backlog", &arguments.backlog);
    figures.setting("rate", &arguments.rate);
    figures.setting("seconds", &arguments.seconds);
    figures.setting("clients", &arguments.clients);
    figures.setting("payload_bytes", &PAYLOAD_BYTES);
    figures.setting("partitions", &PARTITIONS);
    let parts = if arguments.only.is_empty() { Part::value_variants() } else { &arguments.only };
    for number in 1..=arguments.common.runs {
        for part in parts {
            eprintln!("run {number} of {}: {part:?}", arguments.common.runs);
            match part {
                Part::Drain => drain::once(arguments.events, &mut figures).await?,
                Part::Takeover => takeover::once(&mut figures).await?,
                Part::Latency => latency::once(arguments.rate, arguments.seconds, &mut figures).await?,
                Part::Writers => writers::once(arguments.clients, &mut figures).await?,
                Part::Backlog => backlog_cost::once(arguments.backlog, &mut figures).await?,
                Part::EmptyPoll => empty_poll::once(&mut figures).await?,
            }
        }
    }
    figures.finish(arguments.common.json.as_deref())
}
