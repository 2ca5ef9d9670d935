//! An idempotent producer that reports each acknowledgement by the number of its batch.
//!
//! Invariant: records of one partition are stored in the order in which they were accepted, or the producer ends with
//! a fatal error; a record is never given up because time passed. Deliberately absent: waiting (see
//! [`AwaitedProducer`](crate::AwaitedProducer)) and any allocation of our own for each record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};
use thiserror::Error;

use crate::failure::{Trouble, Verdict, judge};
use crate::hurry::Hurry;
use crate::outcome::{DeliveryError, SendError};
use crate::polled::Polled;
use crate::settings::ClientSettings;
use crate::weak::{WeakSetting, refuse_weak_settings};

/// How records are gathered and held until they are acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSettings {
    /// Brokers and free options.
    pub client: ClientSettings,
    /// Longest wait for a fuller request, unless [`Producer::hurry`] is called. In whole milliseconds.
    pub linger: Duration,
    /// `none`, `lz4`, `zstd`, `gzip` or `snappy`.
    pub compression: String,
    /// Most kilobytes of keys, payloads and headers that wait for an acknowledgement.
    pub queue_kbytes_max: u32,
    /// Most records that wait for an acknowledgement.
    pub queue_messages_max: u32,
}

impl ProducerSettings {
    /// Settings for high throughput on few cores: 2 ms linger, no compression, at most 64 MiB and 100,000 records
    /// waiting.
    #[must_use]
    pub fn new(client: ClientSettings) -> Self {
        Self {
            client,
            linger: Duration::from_millis(2),
            compression: "none".to_owned(),
            queue_kbytes_max: 64 * 1024,
            queue_messages_max: 100_000,
        }
    }

    fn config(&self, gap: Gap) -> ClientConfig {
        let mut config = self.client.config(&[("retry.backoff.ms", "50")]);
        config
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", &self.compression)
            .set("queue.buffering.max.kbytes", self.queue_kbytes_max.to_string())
            .set("queue.buffering.max.messages", self.queue_messages_max.to_string())
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("message.timeout.ms", "0")
            .set("partitioner", "murmur2_random");
        if matches!(gap, Gap::EndsProducer) {
            config.set("enable.gapless.guarantee", "true");
        }
        config
    }
}

/// What a refused record means for the records behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// The producer ends, so that no later record overtakes the refused one.
    EndsProducer,
    /// Later records go on.
    IsFine,
}

/// One record to send.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingRecord<'a> {
    /// Full topic name.
    pub topic: &'a str,
    /// Decides the partition (murmur2, as the Java client) unless `partition` is given.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Names and values, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// An explicit partition.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; `None` is the time of sending.
    pub timestamp: Option<i64>,
}

/// Learns what became of each accepted record.
///
/// Contract: called exactly once for every record that [`Producer::try_send`] accepted, from the producer's own
/// thread (or from whoever drops or flushes the producer), in no particular order between partitions. It must not
/// block.
pub trait DeliverySink: Send + Sync + 'static {
    /// A record of `batch` is stored by all in-sync replicas, or will not be.
    fn delivered(&self, batch: usize, outcome: Result<(), DeliveryError>);

    /// The client reports trouble that is about no single record: it goes on by itself, and its records wait.
    fn troubled(&self, _: Trouble) {}
}

/// A producer that cannot be created.
#[derive(Debug, Error)]
pub enum ProducerError {
    /// An option weakens what the producer promises.
    #[error(transparent)]
    Weak(#[from] WeakSetting),
    /// The client library does not take the settings.
    #[error("producer settings are not usable")]
    Settings(#[source] KafkaError),
}

/// The producer; its thread polls for acknowledgements until it is dropped.
///
/// Dropping it gives up what is not yet acknowledged (reported as [`DeliveryError::Dropped`]) and may block for half
/// a second.
pub struct Producer<S: DeliverySink> {
    /// Nothing where nothing lingers.
    hurry: Option<Hurry>,
    polled: Polled<Context<S>>,
}

impl<S: DeliverySink> Producer<S> {
    /// Creates the client; does not wait for a broker.
    ///
    /// # Errors
    /// Settings that weaken delivery, or that the client library refuses.
    pub fn new(settings: &ProducerSettings, sink: S) -> Result<Self, ProducerError> {
        Self::with_gap(settings, sink, Gap::EndsProducer)
    }

    pub(crate) fn with_gap(settings: &ProducerSettings, sink: S, gap: Gap) -> Result<Self, ProducerError> {
        refuse_weak_settings(&settings.client.options)?;
        let polled =
            Polled::new(&settings.config(gap), Context::new(sink)).map_err(ProducerError::Settings)?;
        let hurry = (!settings.linger.is_zero()).then(|| Hurry::new(Arc::clone(polled.native())));
        let hurry = hurry.transpose().map_err(ProducerError::Settings)?;
        Ok(Self { hurry, polled })
    }

    /// Hands the record over, copying it; its acknowledgement is reported to the sink under `batch`.
    ///
    /// # Errors
    /// The record was not accepted and the sink will hear nothing of it.
    pub fn try_send(&self, record: &OutgoingRecord<'_>, batch: usize) -> Result<(), SendError> {
        let mut native = BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic, batch);
        native.partition = record.partition;
        native.payload = record.payload;
        native.key = record.key;
        native.timestamp = record.timestamp;
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in record.headers {
                headers = headers.insert(Header { key, value: Some(*value) });
            }
            native.headers = Some(headers);
        }
        self.polled.native().send(native).map_err(|(error, _)| self.send_error(&error, record.topic))
    }

    /// What was accepted before this call does not linger for a fuller request: there is nothing more to send now. Does not wait.
    pub fn hurry(&self) {
        if let Some(hurry) = &self.hurry {
            hurry.hurry();
        }
    }

    /// What is accepted from now on may linger: there is more to come.
    pub fn linger(&self) {
        if let Some(hurry) = &self.hurry {
            hurry.linger();
        }
    }

    /// Waits until everything accepted is acknowledged or refused. Blocks the thread.
    ///
    /// Answers whether that happened within `timeout`.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.polled.native().flush(timeout).is_ok()
    }

    /// Records that are accepted and not yet acknowledged; at most, because the client's own unread events count too.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.polled.native().in_flight_count()).unwrap_or(0)
    }

    /// Why the producer cannot go on, if so.
    #[must_use]
    pub fn fatal_error(&self) -> Option<String> {
        self.polled.native().client().fatal_error().map(|(code, text)| format!("{code}: {text}"))
    }

    fn send_error(&self, error: &KafkaError, topic: &str) -> SendError {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::QueueFull) {
            return SendError::QueueFull;
        }
        let (topic, reason) = (topic.to_owned(), error.to_string());
        match judge(code) {
            Verdict::Refused(refusal) => SendError::Refused { topic, refusal, reason },
            Verdict::Passes(trouble) => SendError::Passes { topic, trouble, reason },
            Verdict::Dropped => SendError::Passes { topic, trouble: Trouble::Broker, reason },
            Verdict::Fatal => SendError::Fatal(self.fatal_error().unwrap_or(reason)),
        }
    }
}

impl<S: DeliverySink> Drop for Producer<S> {
    fn drop(&mut self) {
        // Without this, the library would go on sending to the brokers for as long as it takes to stop its threads.
        self.polled.native().purge(PurgeConfig::default().queue().inflight());
    }
}

impl<S: DeliverySink> std::fmt::Debug for Producer<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

struct Context<S> {
    sink: S,
    /// What was logged last and has not passed yet.
    trouble: Mutex<Option<RDKafkaErrorCode>>,
    /// Whether `trouble` is set, for the path of every record.
    is_troubled: AtomicBool,
}

impl<S> Context<S> {
    fn new(sink: S) -> Self {
        Self { sink, trouble: Mutex::new(None), is_troubled: AtomicBool::new(false) }
    }

    /// Whether this is other trouble than was logged last.
    fn is_news(&self, code: Option<RDKafkaErrorCode>) -> bool {
        self.is_troubled.store(code.is_some(), Ordering::Relaxed);
        let mut logged = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *logged, code) != code
    }
}

impl<S: DeliverySink> ClientContext for Context<S> {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if self.is_news(code) {
            tracing::warn!(%error, reason, "kafka producer is in trouble and goes on trying");
        } else {
            tracing::debug!(%error, reason, "kafka producer is still in trouble");
        }
        if let Verdict::Passes(trouble) = judge(code) {
            self.sink.troubled(trouble);
        }
    }
}

impl<S: DeliverySink> ProducerContext for Context<S> {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: usize) {
        let outcome = match result {
            Ok(_) => {
                if self.is_troubled.load(Ordering::Relaxed) && self.is_news(None) {
                    tracing::info!("kafka producer works again");
                }
                Ok(())
            }
            Err((error, message)) => Err(DeliveryError::from_kafka(error, message)),
        };
        self.sink.delivered(batch, outcome);
    }
}
