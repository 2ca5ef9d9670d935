//! How soon "sold out" is known while the same streamer works off a backlog of everything else, and how soon without one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use commerce_events::{Event, STOCK_EVENTS, StockEvent, StockV1};
use hdrhistogram::Histogram;
use outbox::{AppendLimits, NewEvent};
use sqlx::{Connection as _, PgConnection};

use super::produce::{self, Kind};
use crate::backlog::event_time;
use crate::figures::Figures;
use crate::latency::{probe_pause, quantile};
use crate::pipeline::{Pipeline, Role};

/// From one "sold out" to the next.
const PAUSE: Duration = Duration::from_millis(10);
/// So many are timed without a backlog.
const ALONE: u64 = 300;
/// Fewer beside the backlog tell nothing.
const SAMPLES_MIN: u64 = 20;

pub(super) async fn once(events: u64, figures: &mut Figures) -> Result<()> {
    let pipeline = Pipeline::create().await?;
    let backlog = produce::fill(&pipeline, Kind::Clean, events).await?;
    let mut shop = Shop::open(&pipeline).await?;
    // The first one waits for shards and partitions.
    shop.sell_out().await?;
    let (mut beside, mut alone) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    while shop.handled().await? < backlog.events {
        beside.record(u64::try_from(shop.sell_out().await?.as_micros())?)?;
        tokio::time::sleep(PAUSE).await;
    }
    ensure!(
        beside.len() >= SAMPLES_MIN,
        "{events} events are too few: {} were sold out beside them",
        beside.len()
    );
    for _ in 0..ALONE {
        alone.record(u64::try_from(shop.sell_out().await?.as_micros())?)?;
        tokio::time::sleep(PAUSE).await;
    }
    figures.add("pipeline.sold_out_p50", "ms", quantile(&beside, 0.5));
    figures.add("pipeline.sold_out_p99", "ms", quantile(&beside, 0.99));
    figures.add("pipeline.sold_out_alone_p50", "ms", quantile(&alone, 0.5));
    figures.add("pipeline.sold_out_alone_p99", "ms", quantile(&alone, 0.99));
    let ratio = quantile(&beside, 0.5) / quantile(&alone, 0.5);
    figures.add("pipeline.sold_out_ratio", "of sold_out_alone_p50", ratio);
    drop(shop);
    pipeline.remove().await
}

/// Sells one product after another out.
struct Shop {
    connection: PgConnection,
    topic: String,
    product: i64,
    roles: [Role; 2],
}

impl Shop {
    async fn open(pipeline: &Pipeline) -> Result<Self> {
        Ok(Self {
            connection: pipeline.connect().await?,
            topic: pipeline.topic(STOCK_EVENTS),
            product: 0,
            roles: [pipeline.start("relay")?, pipeline.start("streamer")?],
        })
    }

    /// The time from the return of the commit until it is known.
    async fn sell_out(&mut self) -> Result<Duration> {
        self.product += 1;
        let product_id = self.product;
        let event = Event::Stock(StockEvent::Depleted(StockV1 { product_id, quantity: 0, version: 1 }));
        let event = NewEvent {
            event_id: uuid::Uuid::now_v7(),
            event_type: event.type_name().as_str().into(),
            aggregate_type: event.type_name().aggregate_type().into(),
            aggregate_id: product_id.to_string(),
            aggregate_version: event.aggregate_version(),
            topic: self.topic.clone(),
            partition_key: product_id.to_string(),
            payload: Some(event.to_json()?),
            headers: Vec::new(),
            traceparent: None,
            occurred_at: event_time(),
        };
        let mut tx = self.connection.begin().await?;
        outbox::append(&mut tx, &[event], &AppendLimits::default()).await?;
        tx.commit().await?;
        let committed = Instant::now();
        while !self.is_sold_out().await? {
            for role in &mut self.roles {
                role.ensure_running()?;
            }
            probe_pause().await?;
        }
        Ok(committed.elapsed())
    }

    async fn is_sold_out(&mut self) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "select exists (select from metrics.product_stock where product_id = $1 and sold_out)",
        )
        .bind(self.product)
        .fetch_one(&mut self.connection)
        .await?)
    }

    /// Events of the backlog that were counted.
    async fn handled(&mut self) -> Result<u64> {
        let handled: i64 = sqlx::query_scalar(
            "select coalesce(sum(handled), 0)::bigint from inbox.progress where topic <> $1",
        )
        .bind(&self.topic)
        .fetch_one(&mut self.connection)
        .await?;
        Ok(u64::try_from(handled)?)
    }
}
