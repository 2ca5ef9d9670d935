//! commit→count visible at a steady rate, through outbox, relay and streamer.

use std::time::Duration;

use anyhow::Result;

use crate::figures::Figures;
use crate::latency::{WARM_UP, measure, note_share, quantile};
use crate::pipeline::Pipeline;

pub(super) async fn once(rate: u32, seconds: u32, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let mut roles = [pipeline.start("relay")?, pipeline.start("streamer")?];
    measure(&pipeline, &mut roles, rate, WARM_UP).await?;
    let before = [roles[0].usage()?.cpu, roles[1].usage()?.cpu];
    let length = Duration::from_secs(seconds.into());
    let latencies = measure(&pipeline, &mut roles, rate, length).await?;
    figures.add("pipeline.latency_p50", "ms", quantile(&latencies, 0.5));
    figures.add("pipeline.latency_p99", "ms", quantile(&latencies, 0.99));
    note_share(figures, "pipeline.relay_cpu", &roles[0], before[0], length)?;
    note_share(figures, "pipeline.streamer_cpu", &roles[1], before[1], length)?;
    drop(roles);
    pipeline.remove().await
}
