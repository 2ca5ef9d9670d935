//! A backlog of product views in the outbox, as if no relay had run for a while.

use std::time::{Duration, Instant};

use anyhow::Result;
use outbox::{AppendLimits, NewEvent};
use sqlx::Connection;

use crate::pipeline::Pipeline;

/// Bytes of a payload, as in the records that the bars speak of.
pub(crate) const PAYLOAD_BYTES: usize = 350;
/// Products that are viewed.
const PRODUCTS: u64 = 10_000;
/// Events appended in one transaction.
const CHUNK: u64 = 2_000;
/// Time between two ticks, as `outbox::ticker` takes them.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that fill at the same time.
const WRITERS: u64 = 2;

/// The payload of view `number`: valid by the contract, padded by a field that readers ignore.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    payload_of(product(number), number)
}

fn payload_of(product: u64, number: u64) -> Vec<u8> {
    let head = format!(r#"{{"productId":{product},"userId":{},"pad":""#, number % 300 + 1);
    let pad = PAYLOAD_BYTES.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(pad)).into_bytes()
}

/// The product of view `number`: a fixed pseudo-random walk, so that every run has the same.
pub(crate) fn product(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % PRODUCTS + 1
}

/// Appends `events` views, with a tick each second, as a live system takes them.
pub(crate) async fn fill(pipeline: &Pipeline, events: u64) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut connection = pipeline.connect().await?;
        let topic = pipeline.topic("view-events");
        tasks.spawn(async move {
            let mut first = writer * CHUNK;
            let mut ticked = Instant::now();
            while first < events {
                if writer == 0 && ticked.elapsed() >= TICK_INTERVAL {
                    outbox::ticker::tick_now(&mut connection).await?;
                    ticked = Instant::now();
                }
                let chunk: Vec<NewEvent> =
                    (first..(first + CHUNK).min(events)).map(|number| view(&topic, number)).collect();
                let mut tx = connection.begin().await?;
                outbox::append(&mut tx, &chunk, &AppendLimits::default()).await?;
                tx.commit().await?;
                first += CHUNK * WRITERS;
            }
            anyhow::Ok(())
        });
    }
    let mut connection = pipeline.connect().await?;
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    sqlx::raw_sql("analyze outbox.event; checkpoint").execute(&mut connection).await?;
    Ok(())
}

/// Appends `events` views in one transaction.
pub(crate) async fn fill_at_once(pipeline: &Pipeline, events: u64) -> Result<()> {
    let mut connection = pipeline.connect().await?;
    let topic = pipeline.topic("view-events");
    let mut tx = connection.begin().await?;
    for first in (0..events).step_by(usize::try_from(CHUNK)?) {
        let chunk: Vec<NewEvent> =
            (first..(first + CHUNK).min(events)).map(|number| view(&topic, number)).collect();
        outbox::append(&mut tx, &chunk, &AppendLimits::default()).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// One view as an event of the outbox.
pub(crate) fn view(topic: &str, number: u64) -> NewEvent {
    view_of(topic, product(number), number)
}

/// The same of a chosen product.
pub(crate) fn view_of(topic: &str, product: u64, number: u64) -> NewEvent {
    let payload = payload_of(product, number);
    let product = product.to_string();
    NewEvent {
        event_id: uuid::Uuid::now_v7(),
        event_type: "ProductViewed".into(),
        aggregate_type: "product".into(),
        aggregate_id: product.clone(),
        aggregate_version: None,
        topic: topic.to_owned(),
        partition_key: product,
        payload: Some(payload),
        headers: Vec::new(),
        traceparent: None,
        occurred_at: event_time(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark's events happen now; nothing decides by it")]
fn event_time() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}
