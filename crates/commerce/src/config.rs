//! Every setting of every role. `config/default.toml` is the manual and the only place of defaults.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use commerce_api::{ApiSettings, AuthSettings, MetricsSettings, RankingSettings, SessionSettings};
use commerce_streamer::{HourlySettings, SweeperSettings};
use inbox::dead_letter::{PublisherSettings, RedriveSettings};
use inbox::{BlockedLimits, ConsumerSettings, FloodLimits, UnknownTypes};
use kafka_client::{ClientSettings, ProducerSettings};
use outbox::{AppendLimits, RelaySettings, RetentionSettings, TickerSettings};
use product_cache::{BreakerSettings, CacheSettings};
use runtime::database::DatabaseSettings;
use runtime::management::ManagementSettings;
use runtime::telemetry::LogSettings;
use serde::Deserialize;

/// The manual: every setting, its default, what it does.
pub(crate) const DEFAULTS: &str = include_str!("../../../config/default.toml");
/// Variables with our prefix that are not settings: of the tools and of this command line.
const NOT_SETTINGS: [&str; 2] = ["DEV_POSTGRES_BIN", "CONFIG_FILE"];

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) log: LogSettings,
    pub(crate) management: ManagementSettings,
    pub(crate) process: ProcessSettings,
    pub(crate) database: DatabaseSettings,
    pub(crate) metrics: MetricsSettings,
    pub(crate) kafka: KafkaSettings,
    pub(crate) redis: RedisSettings,
    pub(crate) cache: CacheSettings,
    pub(crate) auth: AuthSettings,
    pub(crate) session: SessionSettings,
    pub(crate) api: ApiSettings,
    pub(crate) rankings: RankingSettings,
    pub(crate) outbox: OutboxSettings,
    pub(crate) relay: RelaySection,
    pub(crate) streamer: StreamerSection,
    dead_letters: DeadLetterSection,
    pub(crate) hourly: HourlySettings,
    pub(crate) sweeper: SweeperSettings,
}

/// `[process]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessSettings {
    #[serde(with = "humantime_serde")]
    pub(crate) drain: Duration,
    pub(crate) instance: String,
}

/// `[kafka]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSettings {
    pub(crate) brokers: String,
    pub(crate) topic_prefix: String,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i32,
    options: BTreeMap<String, String>,
}

/// `[redis]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisSettings {
    pub(crate) url: String,
}

/// `[outbox]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutboxSettings {
    record_bytes_max: usize,
    #[serde(with = "humantime_serde")]
    tick_interval: Duration,
    #[serde(with = "humantime_serde")]
    retention_interval: Duration,
    #[serde(with = "humantime_serde")]
    retention_keep: Duration,
    #[serde(with = "humantime_serde")]
    retention_lock_timeout: Duration,
    #[serde(with = "humantime_serde")]
    backlog_age_max: Duration,
    backlog_rows_max: u64,
}

/// `[relay]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelaySection {
    #[serde(with = "humantime_serde")]
    lease: Duration,
    batch_events_max: usize,
    in_flight_events_max: usize,
    in_flight_bytes_max: usize,
    #[serde(with = "humantime_serde")]
    busy_pause: Duration,
    #[serde(with = "humantime_serde")]
    idle_pause_max: Duration,
    #[serde(with = "humantime_serde")]
    position_interval: Duration,
    #[serde(with = "humantime_serde")]
    linger: Duration,
    compression: String,
    parked_keys_max: usize,
    #[serde(with = "humantime_serde")]
    shutdown_grace: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) lag_max: Duration,
}

/// `[streamer]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamerSection {
    pub(crate) consumers: Vec<String>,
    workers: usize,
    batch_records_max: usize,
    batch_bytes_max: usize,
    #[serde(with = "humantime_serde")]
    linger: Duration,
    buffer_bytes_max: usize,
    queued_records_min: u32,
    queued_kbytes_max: u32,
    #[serde(with = "humantime_serde")]
    session_timeout: Duration,
    sources_max: u32,
    #[serde(with = "humantime_serde")]
    revoke_grace: Duration,
    #[serde(with = "humantime_serde")]
    shutdown_grace: Duration,
    #[serde(with = "humantime_serde")]
    transaction_timeout: Duration,
    #[serde(with = "humantime_serde")]
    stall_after: Duration,
    flood_in_a_row: u32,
    flood_window_records: u32,
    flood_window_letters: u32,
    blocked_keys_max: u32,
    blocked_letters_max: u32,
    #[serde(with = "humantime_serde")]
    dedup_keep: Duration,
    #[serde(with = "humantime_serde")]
    dedup_keep_ids: Duration,
    #[serde(with = "humantime_serde")]
    dedup_interval: Duration,
    unknown_types: UnknownTypesChoice,
    cache_failures_max: u32,
    #[serde(with = "humantime_serde")]
    cache_pause: Duration,
}

/// `streamer.unknown_types`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UnknownTypesChoice {
    Skip,
    DeadLetter,
}

/// `[dead_letters]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadLetterSection {
    redrives_max: u32,
    chunk_letters_max: NonZeroU32,
    chunk_bytes_max: u64,
    #[serde(with = "humantime_serde")]
    ack_timeout: Duration,
}

impl Config {
    /// Where counts and the inbox live.
    pub(crate) fn metrics_url(&self) -> &str {
        if self.metrics.database_url.is_empty() { &self.database.url } else { &self.metrics.database_url }
    }

    /// A name that no other living process has: the configured one, or one for this run only.
    pub(crate) fn instance(&self, role: &str) -> String {
        if self.process.instance.is_empty() {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}-{role}-{}", host.trim(), std::process::id())
        } else {
            format!("{}-{role}", self.process.instance)
        }
    }

    /// The relay's settings; `role` names its client to the brokers.
    pub(crate) fn relay(&self, role: &str) -> RelaySettings {
        let section = &self.relay;
        let mut producer = ProducerSettings::new(self.kafka.client(role));
        producer.linger = section.linger;
        producer.compression.clone_from(&section.compression);
        let mut settings = RelaySettings::new(self.instance(role), producer);
        settings.lease = section.lease;
        settings.batch_events_max = section.batch_events_max;
        settings.in_flight_events_max = section.in_flight_events_max;
        settings.in_flight_bytes_max = section.in_flight_bytes_max;
        settings.busy_pause = section.busy_pause;
        settings.idle_pause_max = section.idle_pause_max;
        settings.position_interval = section.position_interval;
        settings.parked_keys_max = section.parked_keys_max;
        settings.shutdown_grace = section.shutdown_grace;
        settings
    }

    /// A consumer's settings; `group` and `topics` without prefix.
    pub(crate) fn consumer(&self, group: &str, topics: &[&str]) -> ConsumerSettings {
        let section = &self.streamer;
        let topics = topics.iter().map(|topic| self.kafka.topic(topic)).collect();
        let client = self.kafka.client(group);
        let mut kafka = kafka_client::ConsumerSettings::new(client, self.kafka.topic(group), topics);
        kafka.instance = (!self.process.instance.is_empty()).then(|| self.instance(group));
        kafka.session_timeout = section.session_timeout;
        kafka.batch_records_max = section.batch_records_max;
        kafka.batch_bytes_max = section.batch_bytes_max;
        kafka.linger = section.linger;
        kafka.buffer_bytes_max = section.buffer_bytes_max;
        kafka.queued_records_min = section.queued_records_min;
        kafka.queued_kbytes_max = section.queued_kbytes_max;
        let mut settings = ConsumerSettings::new(kafka, &self.kafka.topic_prefix);
        settings.owner = self.instance(group);
        settings.workers = section.workers;
        settings.sources_max = section.sources_max;
        settings.revoke_grace = section.revoke_grace;
        settings.shutdown_grace = section.shutdown_grace;
        settings.transaction_timeout = section.transaction_timeout;
        settings.stall_after = section.stall_after;
        settings.flood = FloodLimits {
            in_a_row_max: section.flood_in_a_row,
            window_records: section.flood_window_records,
            window_letters_max: section.flood_window_letters,
        };
        settings.blocked =
            BlockedLimits { keys_max: section.blocked_keys_max, letters_max: section.blocked_letters_max };
        settings.unknown_types = match section.unknown_types {
            UnknownTypesChoice::Skip => UnknownTypes::Skip,
            UnknownTypesChoice::DeadLetter => UnknownTypes::DeadLetter,
        };
        settings
    }

    /// How long the streamer remembers what was handled.
    pub(crate) fn dedup_retention(&self) -> inbox::retention::RetentionSettings {
        let section = &self.streamer;
        inbox::retention::RetentionSettings {
            keep: section.dedup_keep,
            keep_ids: section.dedup_keep_ids,
            interval: section.dedup_interval,
        }
    }

    /// How the dead letters of this process's consumers reach their topics.
    pub(crate) fn dead_letters(&self) -> PublisherSettings {
        let groups = self.streamer.consumers.iter().map(|group| self.kafka.topic(group)).collect();
        let mut settings =
            PublisherSettings::new(groups, ProducerSettings::new(self.kafka.client("dead-letters")));
        commerce_events::DEAD_LETTER_SUFFIX.clone_into(&mut settings.topic_suffix);
        settings.record_bytes_max = self.outbox.record_bytes_max;
        settings.ack_timeout = self.dead_letters.ack_timeout;
        settings
    }

    /// How operators send dead letters to their original topics again.
    pub(crate) fn redrive(&self) -> RedriveSettings {
        let section = &self.dead_letters;
        let mut settings = RedriveSettings::new(ProducerSettings::new(self.kafka.client("redrive")));
        settings.redrives_max = section.redrives_max;
        settings.chunk_letters_max = section.chunk_letters_max;
        settings.chunk_bytes_max = section.chunk_bytes_max;
        settings.ack_timeout = section.ack_timeout;
        settings
    }

    /// Limits of the outbox.
    pub(crate) fn append_limits(&self) -> AppendLimits {
        AppendLimits { record_bytes_max: self.outbox.record_bytes_max }
    }

    /// How long published events are kept, and how many may wait.
    pub(crate) fn retention(&self) -> RetentionSettings {
        RetentionSettings {
            interval: self.outbox.retention_interval,
            keep: self.outbox.retention_keep,
            lock_timeout: self.outbox.retention_lock_timeout,
            age_max: self.outbox.backlog_age_max,
            rows_max: self.outbox.backlog_rows_max,
        }
    }

    /// When invalidations after a commit are left to the sweeper.
    pub(crate) fn cache_breaker(&self) -> BreakerSettings {
        BreakerSettings { failures_max: self.streamer.cache_failures_max, pause: self.streamer.cache_pause }
    }

    /// How ticks are taken.
    pub(crate) fn ticker(&self) -> TickerSettings {
        TickerSettings { interval: self.outbox.tick_interval }
    }
}

impl KafkaSettings {
    /// A client that the brokers know as `commerce-<role>`.
    pub(crate) fn client(&self, role: &str) -> ClientSettings {
        let mut client = ClientSettings::new(&self.brokers, format!("commerce-{role}"));
        client.options.clone_from(&self.options);
        client
    }

    /// The full name of a topic or group.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }
}

/// Loads and checks the configuration.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    Ok(runtime::config::load(DEFAULTS, file, &NOT_SETTINGS)?)
}

/// The settings in use as TOML, passwords replaced by `***`.
pub(crate) fn effective(file: Option<&Path>) -> anyhow::Result<String> {
    let mut settings: toml::Table = runtime::config::load(DEFAULTS, file, &NOT_SETTINGS)?;
    mask(&mut settings);
    Ok(toml::to_string_pretty(&settings)?)
}

fn mask(table: &mut toml::Table) {
    for (key, value) in table.iter_mut() {
        match value {
            toml::Value::Table(inner) => mask(inner),
            toml::Value::String(text) if key.contains("password") => MASK.clone_into(text),
            toml::Value::String(text) => *text = mask_url(text),
            _ => {}
        }
    }
}

const MASK: &str = "***";

/// Replaces the password of `scheme://user:password@host`.
pub(crate) fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let Some((user, host)) = authority.rsplit_once('@') else { return text.to_owned() };
    let Some((name, _password)) = user.split_once(':') else { return text.to_owned() };
    format!("{scheme}://{name}:{MASK}@{host}{}", &rest[authority.len()..])
}

#[cfg(test)]
mod tests {
    use super::mask_url;

    #[test]
    fn only_the_password_of_a_url_is_masked() {
        for (plain, masked) in [
            ("postgres://shop:s3cret@db:5432/shop?host=/x", "postgres://shop:***@db:5432/shop?host=/x"),
            ("redis://:p@ss@cache", "redis://:***@cache"),
            ("postgres://shop@db/shop", "postgres://shop@db/shop"),
            ("localhost:9092", "localhost:9092"),
        ] {
            assert_eq!(mask_url(plain), masked);
        }
    }
}
