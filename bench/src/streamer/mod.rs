//! `streamer`: the figures that the inbox promises, one part each.
//!
//! Topics that are drained are filled directly, so that nothing but the streamer is measured; the figures named `pipeline` and the
//! recoveries go through outbox and relay. Draining and redriving compare the ledger and each product's counts with what was produced, and
//! fail on any difference.

mod drain;
mod latency;
mod mix;
mod produce;
mod recovery;
mod redrive;
mod sold_out;
mod sustained;
mod traffic;

use anyhow::Result;
use clap::ValueEnum;

use crate::Common;
use crate::drain::PARTITIONS;
use crate::figures::Figures;

/// `cargo x bench streamer`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Events on the topics
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Dead letters that are redriven
    #[arg(long, default_value_t = 10_000)]
    letters: u64,
    /// Transactions per second for the latency
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Seconds under that rate
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Seconds for which a sustained rate must be held
    #[arg(long, default_value_t = 60)]
    sustained_seconds: u32,
    /// Parts to run; all of them when none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    #[command(flatten)]
    common: Common,
}

/// What can be run alone. Ratios are to the clean drain of the same run, which is then run as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `streamer.drain`, `streamer.drain_ratio`, `streamer.rss`, `streamer.cpu`, `streamer.dedup_bytes_per_event`
    Drain,
    /// `streamer.dirty_ratio`: 1 % duplicates and 0.1 % poison
    Dirty,
    /// `streamer.bitmap_gain`: events without a sequence, remembered by a row each
    IdRows,
    /// `streamer.redrive`, and `streamer.isolate`: how fast the culprits of failing batches are found
    Redrive,
    /// `pipeline.latency_p50|p99`: from a commit to its count
    Latency,
    /// `pipeline.sold_out_p50|p99`: from the answer to the order of a last unit to the api's page that says "sold out", beside a
    /// backlog of everything else; `_asked` from the order's sending, `_alone` without a backlog
    SoldOut,
    /// `pipeline.sustained`: the highest rate at which no more and more events wait
    Sustained,
    /// `streamer.kill_recovery_seconds`, `streamer.restart_recovery_seconds`: one of three streamers dies by `SIGKILL`
    Recovery,
}

/// Runs the parts in turn and prints the figures.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = Figures::default();
    figures.setting("events", &arguments.events);
    figures.setting("letters", &arguments.letters);
    figures.setting("rate", &arguments.rate);
    figures.setting("seconds", &arguments.seconds);
    figures.setting("sustained_seconds", &arguments.sustained_seconds);
    figures.setting("products", &mix::PRODUCTS);
    figures.setting("partitions", &PARTITIONS);
    let runs = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    for number in 1..=arguments.common.runs {
        let begin = |part: Part| eprintln!("run {number} of {}: {part:?}", arguments.common.runs);
        if runs(Part::Drain) || runs(Part::Dirty) || runs(Part::IdRows) {
            begin(Part::Drain);
            let clean = drain::clean(arguments.events, &mut figures).await?;
            if runs(Part::Dirty) {
                begin(Part::Dirty);
                drain::dirty(arguments.events, clean, &mut figures).await?;
            }
            if runs(Part::IdRows) {
                begin(Part::IdRows);
                drain::without_sequence(arguments.events, clean, &mut figures).await?;
            }
        }
        if runs(Part::Redrive) {
            begin(Part::Redrive);
            redrive::once(arguments.letters, &mut figures).await?;
        }
        if runs(Part::Latency) {
            begin(Part::Latency);
            latency::once(arguments.rate, arguments.seconds, &mut figures).await?;
        }
        if runs(Part::SoldOut) {
            begin(Part::SoldOut);
            sold_out::once(arguments.events, &mut figures).await?;
        }
        if runs(Part::Sustained) {
            begin(Part::Sustained);
            sustained::once(arguments.sustained_seconds, &mut figures).await?;
        }
        if runs(Part::Recovery) {
            begin(Part::Recovery);
            recovery::killed(arguments.rate, &mut figures).await?;
            recovery::restarted(arguments.rate, &mut figures).await?;
        }
    }
    figures.finish(arguments.common.json.as_deref())
}
