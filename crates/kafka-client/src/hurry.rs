//! A thread that has a producer send what lingers.
//!
//! To linger pays when there is more to come, and only whoever sends knows whether there is. librdkafka leaves its linger out for as
//! long as a call to its flush lasts, which the safe library's does for an instant at a time: too short to be noticed.

#![expect(unsafe_code, reason = "a flush that lasts is had through the C interface only")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rdkafka::bindings as native;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

/// Longest flush before the thread looks whether it is still wanted.
const FLUSH_MILLIS: i32 = 100;

/// What the thread is told.
#[derive(Default)]
struct Orders {
    is_hurried: AtomicBool,
    is_over: AtomicBool,
}

/// The thread; dropping this ends it.
pub(crate) struct Hurry {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Hurry {
    pub(crate) fn new<C: ProducerContext + 'static>(
        producer: Arc<BaseProducer<C>>,
    ) -> Result<Self, KafkaError> {
        let orders = Arc::new(Orders::default());
        let thread = std::thread::Builder::new().name("kafka-hurry".to_owned()).spawn({
            let orders = Arc::clone(&orders);
            move || {
                while !orders.is_over.load(Ordering::Acquire) {
                    // Whoever gives an order unparks behind it, so that none is slept through.
                    if !orders.is_hurried.load(Ordering::Acquire) || flush(&producer) {
                        std::thread::park();
                    }
                }
            }
        });
        let thread = thread.map_err(|error| KafkaError::ClientCreation(format!("no thread: {error}")))?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// What was accepted before this call does not linger.
    pub(crate) fn hurry(&self) {
        self.orders.is_hurried.store(true, Ordering::Release);
        self.wake();
    }

    /// What is accepted from now on may.
    pub(crate) fn linger(&self) {
        self.orders.is_hurried.store(false, Ordering::Release);
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.orders.is_over.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It runs nothing that panics.
            let _ = thread.join();
        }
    }
}

/// Sends without linger; answers whether everything is acknowledged.
fn flush<C: ProducerContext>(producer: &BaseProducer<C>) -> bool {
    // SAFETY: the client is alive, because the caller lends it, and may be used by any number of threads. Acknowledgements are
    // events of the queue that `Polled` serves (`RD_KAFKA_EVENT_DR`), so the call waits and runs no callback of ours.
    let answer = unsafe { native::rd_kafka_flush(producer.client().native_ptr(), FLUSH_MILLIS) };
    answer == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}
