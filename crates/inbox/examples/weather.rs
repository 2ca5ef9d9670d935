//! How warm it is at each weather station: a projection with a table of its own that counts each reading once.
//!
//! `COMMERCE_DATABASE_URL` and `COMMERCE_KAFKA_BROKERS` name the servers; it makes a database and a topic there.

use std::{sync::Arc, time::Duration};

use inbox::{ConsumerSettings, Decision, OrderingMode, Projection, RecordView, Refusal, StreamerStatus};
use kafka_client::admin::{Admin, TopicSpec};
use kafka_client::{AwaitedProducer, ClientSettings, OutgoingRecord, ProducerSettings};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "example-weather-readings";

/// Readings are a station and its degrees.
struct Weather;

impl Projection for Weather {
    type Event = (i32, i64);

    /// Sums: a reading that comes late counts the same.
    fn ordering(&self) -> OrderingMode {
        OrderingMode::Commutative
    }

    fn decode(&self, record: &RecordView<'_>) -> Result<Decision<Self::Event>, Refusal> {
        let refuse = |error: serde_json::Error| Refusal { reason: "malformed", error: error.to_string() };
        serde_json::from_slice(record.value.unwrap_or_default()).map(Decision::Apply).map_err(refuse)
    }

    /// Ordered by station, so that batches of two partitions cannot wait for each other in a circle.
    async fn apply(
        &self,
        tx: &mut PgConnection,
        _: &str,
        _: i32,
        readings: &[(i32, i64)],
    ) -> sqlx::Result<()> {
        let (stations, degrees): (Vec<i32>, Vec<i64>) = readings.iter().copied().unzip();
        let add = "insert into weather as w select station, count(*), sum(degrees)
                     from unnest($1::int[], $2::bigint[]) as r (station, degrees) group by station order by station
                   on conflict (station) do update
                      set readings = w.readings + excluded.readings, degrees = w.degrees + excluded.degrees";
        sqlx::query(add).bind(stations).bind(degrees).execute(tx).await.map(|_| ())
    }

    /// Nothing is told outside of the database.
    async fn committed(&self, _: &[(i32, i64)]) {}
}

/// The inbox beside the projection's table, and five records of four readings: the first is sent twice.
async fn prepare(server: PgConnectOptions, client: &ClientSettings) -> anyhow::Result<PgConnectOptions> {
    let mut connection = PgConnection::connect_with(&server).await?;
    connection.execute("drop database if exists inbox_example_weather with (force)").await?;
    connection.execute("create database inbox_example_weather").await?;
    let options = server.database("inbox_example_weather");
    let mut connection = PgConnection::connect_with(&options).await?;
    inbox::migrations().run(&mut connection).await?;
    connection
        .execute("create table weather (station int primary key, readings bigint, degrees bigint)")
        .await?;
    let topic = TopicSpec { name: TOPIC.to_owned(), partitions: 3, replication: 1, config: [].into() };
    Admin::new(client)?.create_topics(&[topic]).await?;
    let producer = AwaitedProducer::new(&ProducerSettings::new(client.clone()))?;
    for (number, station, degrees) in [(1_u128, 1, 20), (2, 2, 3), (1, 1, 20), (3, 1, 22), (4, 3, -8)] {
        let (id, key) = (uuid::Uuid::from_u128(number).to_string(), station.to_string());
        let (value, headers) =
            (format!("[{station},{degrees}]"), [("ce_type", &b"Read"[..]), ("ce_id", id.as_bytes())]);
        let (key, payload) = (Some(key.as_bytes()), Some(value.as_bytes()));
        let record = OutgoingRecord {
            topic: TOPIC,
            key,
            payload,
            headers: &headers,
            partition: None,
            timestamp: None,
        };
        producer.send_all(&[record]).await?;
    }
    Ok(options)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = ClientSettings::new(std::env::var("COMMERCE_KAFKA_BROKERS")?, "weather");
    let options = prepare(std::env::var("COMMERCE_DATABASE_URL")?.parse()?, &client).await?;
    let kafka =
        kafka_client::ConsumerSettings::new(client.clone(), "example-weather", vec![TOPIC.to_owned()]);
    let (settings, stop) = (ConsumerSettings::new(kafka, ""), CancellationToken::new());
    let status = Arc::new(StreamerStatus::default());
    let streamer = inbox::streamer::run(settings, options.clone(), Arc::new(Weather), stop.clone(), status);
    let streamer = tokio::spawn(streamer);
    let mut connection = PgConnection::connect_with(&options).await?;
    let passed = "select coalesce(sum(next_offset - first_offset), 0)::bigint from inbox.progress";
    while sqlx::query_scalar::<_, i64>(passed).fetch_one(&mut connection).await? < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    streamer.await??;
    let weather =
        "select format('station %s: %s degrees in the mean of %s', station, degrees / readings, readings)
                     from weather order by station";
    for line in sqlx::query_scalar::<_, String>(weather).fetch_all(&mut connection).await? {
        println!("{line}");
    }
    Ok(Admin::new(&client)?.delete_topics(&[TOPIC]).await?)
}
