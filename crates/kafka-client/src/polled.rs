//! A native producer with a thread that serves its acknowledgements.
//!
//! The library's own (`ThreadedProducer`) spins for the last, rounded-down millisecond of every wait: one percent of a
//! core for a producer that does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};

/// How long the thread waits for an acknowledgement before it looks whether it is to end. A little more than a number of
/// milliseconds: the library waits for whole ones, and spins for what is left.
const WAIT: Duration = Duration::from_micros(100_250);

/// The producer; dropping it ends the thread.
pub(crate) struct Polled<C: ProducerContext + 'static> {
    native: Arc<BaseProducer<C>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> Polled<C> {
    pub(crate) fn new(config: &ClientConfig, context: C) -> Result<Self, KafkaError> {
        let native = Arc::new(BaseProducer::from_config_and_context(config, context)?);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("kafka-acks".to_owned()).spawn({
            let (native, stop) = (Arc::clone(&native), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    native.poll(WAIT);
                }
            }
        });
        let thread = thread.map_err(|error| KafkaError::ClientCreation(format!("no thread: {error}")))?;
        Ok(Self { native, stop, thread: Some(thread) })
    }

    pub(crate) fn native(&self) -> &Arc<BaseProducer<C>> {
        &self.native
    }
}

impl<C: ProducerContext + 'static> Drop for Polled<C> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A sink that panicked has said so already.
            let _ = thread.join();
        }
    }
}
