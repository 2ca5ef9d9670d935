//! Logs to standard error and metrics for Prometheus.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::layers::{Layer as _, PrefixLayer};
use serde::Deserialize;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Buckets for every histogram whose name ends in `_seconds`: from 0.5 ms to 60 s.
const SECONDS_BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// Buckets for every other histogram: counts of events.
const COUNT_BUCKETS: [f64; 10] = [1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

/// Stands before every metric's name, with an underscore: `outbox_lag_seconds`, as a library names it, is
/// `commerce_outbox_lag_seconds` where an operator looks.
const METRICS_PREFIX: &str = "commerce";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For a person at a terminal.
    Text,
}

/// `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// Which lines: `info`, or by module as in `info,outbox=debug`.
    pub filter: String,
    /// How they look.
    pub format: LogFormat,
}

/// Why telemetry cannot start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `log.filter` cannot be read.
    #[error("log.filter is not a filter")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// A subscriber is installed already.
    #[error("logging is already set up")]
    Logging(#[source] TryInitError),
    /// The metrics' buckets are refused.
    #[error("metrics cannot be set up")]
    Metrics(#[source] BuildError),
    /// A recorder is installed already.
    #[error("metrics are already set up")]
    MetricsTwice,
}

/// Installs logging for the process.
///
/// # Errors
/// [`TelemetryError`] for a bad filter or a second call.
pub fn install_logs(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(TelemetryError::Filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
        LogFormat::Text => builder.finish().try_init(),
    }
    .map_err(TelemetryError::Logging)
}

/// Installs the metrics recorder for the process and returns what renders it; `commerce_` stands before every name.
///
/// # Errors
/// [`TelemetryError::MetricsTwice`] on a second call.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let (recorder, handle) = recorder().map_err(TelemetryError::Metrics)?;
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::MetricsTwice)?;
    Ok(handle)
}

fn recorder() -> Result<(impl metrics::Recorder, PrometheusHandle), BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets(&COUNT_BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    Ok((PrefixLayer::new(METRICS_PREFIX).layer(recorder), handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_see_the_prefix_and_the_buckets_of_a_name() {
        let (recorder, handle) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!("outbox_published_total", "Events published");
            metrics::counter!("outbox_published_total").increment(3);
            metrics::histogram!("outbox_publish_seconds").record(0.002);
            metrics::histogram!("outbox_window_rows", "shard" => "7").record(3.0);
        });
        let text = handle.render();
        for line in [
            "# HELP commerce_outbox_published_total Events published",
            "commerce_outbox_published_total 3",
            "commerce_outbox_publish_seconds_bucket{le=\"0.0025\"} 1",
            "commerce_outbox_window_rows_bucket{shard=\"7\",le=\"5\"} 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
    }
}
