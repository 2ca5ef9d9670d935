//! Two relays as they are often written, to show what is wrong with them: each keeps a place in one order over all rows.

use std::time::Duration;

use anyhow::{Result, ensure};
use kafka_client::{AwaitedProducer, OutgoingRecord, ProducerSettings};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;

use super::store::{self, PlainRow};
use super::variant::Variant;

/// Rows of one read.
const ROWS_MAX: i64 = 500;
/// Pause after a read that found nothing.
const PAUSE: Duration = Duration::from_millis(2);

/// Publishes until it is stopped; of several, one works and the others wait for its connection to end.
pub(crate) async fn run(
    variant: Variant,
    options: &PgConnectOptions,
    producer: &ProducerSettings,
    stop: &CancellationToken,
) -> Result<()> {
    let producer = AwaitedProducer::new(producer)?;
    let work = async {
        let mut connection = PgConnection::connect_with(options).await?;
        store::lock_alone(&mut connection).await?;
        loop {
            let rows = match variant {
                Variant::BelowXmin => store::list_below_xmin(&mut connection, ROWS_MAX).await?,
                _ => store::list_above_id(&mut connection, ROWS_MAX).await?,
            };
            match rows.last() {
                None => tokio::time::sleep(PAUSE).await,
                Some(last) => {
                    publish(&producer, &rows).await?;
                    store::set_place(&mut connection, &last.txid, last.id).await?;
                }
            }
        }
    };
    let ended: Option<Result<()>> = stop.run_until_cancelled(work).await;
    let _ = ended.transpose()?;
    ensure!(stop.is_cancelled(), "it ended by itself");
    Ok(())
}

async fn publish(producer: &AwaitedProducer, rows: &[PlainRow]) -> Result<()> {
    let ids: Vec<String> = rows.iter().map(|row| row.event_id.to_string()).collect();
    let headers: Vec<[(&str, &[u8]); 1]> = ids.iter().map(|id| [("ce_id", id.as_bytes())]).collect();
    let records: Vec<OutgoingRecord<'_>> = rows
        .iter()
        .zip(&headers)
        .map(|(row, headers)| OutgoingRecord {
            topic: &row.topic,
            key: Some(row.partition_key.as_bytes()),
            payload: row.payload.as_deref(),
            headers,
            partition: None,
            timestamp: None,
        })
        .collect();
    Ok(producer.send_all(&records).await?)
}
