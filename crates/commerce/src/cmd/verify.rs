//! `commerce verify`: recount from the sources, compare with what buyers see.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use commerce_workload::verify::{self, Pipeline, VerifySettings};

use crate::config::Config;

/// What `commerce verify` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Wait for so long until the pipeline has settled, for example 2m; without it one look must do
    #[arg(long, value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Write the report as JSON; `-` for standard output
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let report = verify::run(VerifySettings {
        wait: arguments.wait,
        json: arguments.json,
        pipeline: Pipeline {
            shop_url: config.database.url.clone(),
            metrics_url: config.metrics_url().to_owned(),
            kafka: config.kafka.client("verify"),
            topic_prefix: config.kafka.topic_prefix.clone(),
        },
    })
    .await?;
    Ok(if report.exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
