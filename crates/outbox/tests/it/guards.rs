//! Servers and settings that a relay refuses.

use anyhow::Result;
use sqlx::Executor;

use crate::fixture::Fixture;

async fn refusal(fixture: &Fixture) -> Result<String> {
    let mut relay = fixture.relay("a");
    match relay.ended().await {
        Ok(()) => anyhow::bail!("the relay ended without an error"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[tokio::test]
async fn a_database_that_was_restored_from_a_dump_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    connection.execute("update outbox.shard set system_identifier = 77").await?;
    let text = refusal(&fixture).await?;
    assert!(text.contains("server 77") && text.contains("rebase"), "{text}");
    fixture.remove().await
}

#[tokio::test]
async fn a_position_ahead_of_the_server_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    connection.execute("update outbox.shard set position = '999999999999:999999999999:'").await?;
    let text = refusal(&fixture).await?;
    assert!(text.contains("lies ahead"), "{text}");
    fixture.remove().await
}

#[tokio::test]
async fn a_sequence_that_caches_ids_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    connection.execute("alter sequence outbox.event_id cache 20").await?;
    let text = refusal(&fixture).await?;
    assert!(text.contains("caches 20"), "{text}");
    fixture.remove().await
}

#[tokio::test]
async fn a_shard_table_that_is_not_whole_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut connection = fixture.database.connect().await?;
    connection.execute("delete from outbox.shard where shard = 3").await?;
    let text = refusal(&fixture).await?;
    assert!(text.contains("15 rows"), "{text}");
    fixture.remove().await
}

#[tokio::test]
async fn producer_settings_that_weaken_delivery_are_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut settings = fixture.settings("a");
    settings.producer.client.options.insert("enable.idempotence".to_owned(), "false".to_owned());
    let mut relay = fixture.relay_with(settings);
    let text = format!("{:#}", relay.ended().await.err().unwrap_or_else(|| anyhow::anyhow!("it ran")));
    assert!(text.contains("enable.idempotence"), "{text}");
    fixture.remove().await
}
