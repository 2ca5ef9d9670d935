//! The highest rate at which the whole pipeline keeps up: writers, outbox, relay, Kafka and streamer on one machine.
//!
//! What the pipeline takes when it is never without work is only where the search begins: the figure is a rate that was held by
//! the clock, whatever became of the events, while no more of them waited at the end than at the beginning.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::drain::settle;
use super::traffic::{Pace, Sample, Traffic, handled, of_time};
use crate::ceilings::rate;
use crate::figures::Figures;
use crate::pipeline::Pipeline;

/// Events of a transaction, as a writer that commits in groups has them.
const CHUNK: u64 = 200;
/// Events that wait while the search looks for what the pipeline takes: several batches of each partition.
const BEHIND: u64 = 20_000;
/// Time until the roles have their shards and partitions, and of the search.
const WARM_UP: Duration = Duration::from_secs(5);
const SEARCH: Duration = Duration::from_secs(10);
/// The rates that are tried, in percent of what the search has found.
const TRIES: [u64; 5] = [97, 92, 87, 82, 75];
/// So much more may wait in the last third of the time than in the first: the events of half a second.
const GROWTH_MAX: Duration = Duration::from_millis(500);

pub(super) async fn once(seconds: u32, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    settle(&mut pipeline.connect().await?).await?;
    let mut roles = [pipeline.start("relay")?, pipeline.start("streamer")?];
    let mut traffic = Traffic::start(&pipeline, CHUNK).await?;
    traffic.run_for(WARM_UP, Pace::Behind(BEHIND), &mut roles).await?;
    let searched = traffic.run_for(SEARCH, Pace::Behind(BEHIND), &mut roles).await?;
    let (events, time) = handled(&searched)?;
    let found = events * 1_000 / u64::try_from(time.as_millis())?;
    let mut held = None;
    for percent in TRIES {
        let target = found * percent / 100;
        let length = Duration::from_secs(seconds.into());
        let samples = traffic.run_for(length, Pace::Rate(target), &mut roles).await?;
        let is_level = is_level(&samples, of_time(target, GROWTH_MAX)?);
        eprintln!("  {target} events/s: {}", if is_level { "held" } else { "more and more wait" });
        if is_level {
            held = Some(samples);
            break;
        }
        traffic.run_for(WARM_UP, Pace::Behind(0), &mut roles).await?;
    }
    let samples = held.context("no rate was held")?;
    let (events, time) = handled(&samples)?;
    let sustained = rate(events, time);
    figures.add("pipeline.sustained", "events/s", sustained);
    let mut behind = Histogram::<u64>::new(3)?;
    for sample in &samples {
        behind.record(sample.behind)?;
    }
    for (name, quantile) in [("pipeline.sustained_lag_p50", 0.5), ("pipeline.sustained_lag_p99", 0.99)] {
        let events = behind.value_at_quantile(quantile);
        let seconds = rate(events, Duration::from_secs(1)) / sustained;
        figures.add(name, "ms", seconds * 1_000.0);
    }
    traffic.finish(&mut roles).await?;
    drop(roles);
    pipeline.remove().await
}

/// Whether what waits does not grow. The least of a third is compared, because bursts say nothing about a trend.
fn is_level(samples: &[Sample], growth_max: u64) -> bool {
    let third = samples.len() / 3;
    let least = |samples: &[Sample]| samples.iter().map(|sample| sample.behind).min().unwrap_or_default();
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    least(last) <= least(first) + growth_max
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_burst_is_level_and_a_slow_growth_is_not() {
        let at = Instant::now();
        let samples = |behind: fn(u64) -> u64| -> Vec<Sample> {
            (0..300).map(|number| Sample { at, handled: 0, behind: behind(number) }).collect()
        };
        assert!(is_level(&samples(|number| if number % 50 == 0 { 90_000 } else { 300 }), 500));
        assert!(is_level(&samples(|number| 5_000 - number), 500));
        assert!(!is_level(&samples(|number| number * 10), 500));
    }
}
