//! `commerce outbox status` on a real outbox.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use outbox::{AppendLimits, NewEvent};
use serde_json::Value;
use sqlx::Connection;

use crate::harness::Shop;

fn event(topic: &str, key: u32) -> NewEvent {
    NewEvent {
        event_id: uuid::Uuid::now_v7(),
        event_type: Cow::Borrowed("Happened"),
        aggregate_type: Cow::Borrowed("thing"),
        aggregate_id: key.to_string(),
        aggregate_version: None,
        topic: topic.to_owned(),
        partition_key: key.to_string(),
        payload: None,
        headers: Vec::new(),
        traceparent: None,
        occurred_at: sqlx::types::chrono::DateTime::UNIX_EPOCH,
    }
}

/// Sets three events aside, as a relay does that the broker refuses them.
const PARK: &str = "
    insert into outbox.parked (shard, id, event_id, system_identifier, timeline, event_type, aggregate_type, aggregate_id,
                               topic, partition_key, occurred_at, state, reason, error, attempts)
    select shard, id, event_id, system_identifier, timeline, event_type, aggregate_type, aggregate_id, topic, partition_key,
           occurred_at, 'refused', 'too_large', 'too large', 1
      from outbox.event order by id limit 3";

#[tokio::test]
async fn the_status_says_what_waits_and_which_source_says_so() -> Result<()> {
    let shop = Shop::open().await?;
    let mut connection = shop.connect().await?;
    let events: Vec<NewEvent> = (0..250).map(|key| event(&shop.topics.name("view-events"), key)).collect();
    let mut tx = connection.begin().await?;
    outbox::append(&mut tx, &events, &AppendLimits::default()).await?;
    tx.commit().await?;
    sqlx::query(PARK).execute(&mut connection).await?;

    let told = shop.command("outbox").args(["status", "--json", "-"]).output()?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout)?;
    ensure!(told["source"]["kind"] == "tables outbox.*" && told["source"]["isCutShort"] == false, "{told}");
    ensure!(told["total"]["events"] == 250 && told["total"]["isEstimate"] == false, "{told}");
    let shards = told["shards"].as_array().context("no shards")?;
    ensure!(shards.len() == 16 && shards.iter().all(|shard| shard["owner"].is_null()), "{told}");
    let parked = shards.iter().map(|shard| shard["parked"]["events"].as_u64().unwrap_or_default());
    ensure!(parked.sum::<u64>() == 3 && told["parked"]["events"] == 3, "{told}");
    let segments = told["segments"].as_array().context("no segments")?;
    ensure!(segments.iter().filter(|segment| segment["isUnpublished"] == true).count() == 1, "{told}");

    let text = String::from_utf8(shop.command("outbox").arg("status").output()?.stdout)?;
    let total = text.lines().find(|line| line.trim_start().starts_with("total")).context("no total")?;
    ensure!(
        text.starts_with("source: tables outbox.* of database test_")
            && total.contains(" 250 ")
            && total.ends_with(" 3"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_database_that_is_away_is_an_error_without_its_password() -> Result<()> {
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_commerce"))
        .args(["outbox", "status"])
        .env("COMMERCE_DATABASE_URL", "postgres://shop:s3cret@127.0.0.1:1/shop")
        .output()?;
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    ensure!(!told.status.success() && text.contains("127.0.0.1:1") && !text.contains("s3cret"), "{text}");
    Ok(())
}
