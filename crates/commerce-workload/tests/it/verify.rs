//! The verifier against a pipeline whose state is known to the last row.

use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use commerce_api::EventLog;
use commerce_api::import::{ImportedView, import_views};
use commerce_workload::verify::{Pipeline, Settling, VerifyReport, VerifySettings, run, wait_settled};
use kafka_client::admin::{Admin, TopicSpec};
use kafka_client::{AwaitedProducer, ClientSettings, OutgoingRecord, ProducerSettings};
use outbox::AppendLimits;
use testkit::{TestDatabase, TestTopics};

const TOPICS: [&str; 4] = ["catalog-events", "order-events", "stock-events", "view-events"];

/// Product 1 is sold out, product 2 is not; a refund takes one unit of product 2 back.
const SHOP: &str = "
    insert into shop.product (code, name, price) values ('a', 'a', 100), ('b', 'b', 50);
    insert into shop.stock (product_id, quantity, version) values (1, 0, 9), (2, 5, 3);
    insert into shop.product_like (user_id, product_id) values (1, 1), (2, 1);
    insert into shop.orders (user_id, kind, status, total_amount)
    values (1, 'sale', 'completed', 350), (2, 'sale', 'completed', 200), (null, 'refund', 'completed', 50);
    insert into shop.order_line (order_id, line, product_id, quantity, unit_price)
    values (1, 1, 1, 3, 100), (1, 2, 2, 1, 50), (2, 1, 2, 4, 50), (3, 1, 2, 1, 50);";

/// What a consumer makes of the shop's events and of [`RECORDS`].
const METRICS: &str = "
    insert into metrics.product_metrics (product_id, like_count, sales_count, sales_amount, view_count)
    values (1, 2, 3, 300, 2), (2, 0, 4, 200, 1);
    insert into metrics.product_metrics_hourly (product_id, hour, like_count, sales_count, sales_amount, view_count)
    values (1, '2026-01-01', 2, 3, 300, 2);
    insert into metrics.hourly_addition (products, hours, likes, sales, amounts, views)
    values ('{2}', '{1767225600}', '{0}', '{4}', '{200}', '{1}');
    insert into metrics.product_stock (product_id, sold_out, version) values (1, true, 8);
    insert into metrics.applied (topic, partition, kind, events, units)
    values ('catalog-events', 0, 'ProductLiked', 2, 2), ('order-events', 0, 'OrderCompleted', 2, 8),
           ('order-events', 0, 'OrderCancelled', 1, 1), ('view-events', 0, 'ProductViewed', 3, 3),
           ('stock-events', 0, 'StockDepleted', 1, 1);
    insert into inbox.consumer_group (name) values ('PREFIXm'), ('PREFIXs');
    insert into inbox.progress (consumer_group, topic, partition, next_offset, first_offset, handled, duplicates, dead_lettered)
    values (1, 'PREFIXcatalog-events', 0, 2, 0, 2, 0, 0), (1, 'PREFIXorder-events', 0, 3, 0, 3, 0, 0),
           (1, 'PREFIXview-events', 0, 6, 0, 3, 1, 2), (2, 'PREFIXstock-events', 0, 1, 0, 1, 0, 0);
    insert into inbox.event_handled (consumer_group, source_id, lane, block, bits)
    values (1, 1, 0, 0, set_byte(decode(repeat('00', 512), 'hex'), 7, 255)),
           (2, 1, 0, 0, set_byte(decode(repeat('00', 512), 'hex'), 0, 1));
    insert into inbox.dead_letter (id, consumer_group, topic, partition, \"offset\", headers, reason, fingerprint, error, status)
    values (gen_random_uuid(), 'PREFIXm', 'PREFIXview-events', 0, 4, '[]', 'event_time', 'f', 'e', 'published'),
           (gen_random_uuid(), 'PREFIXm', 'PREFIXview-events', 0, 5, '[]', 'undecodable', 'f', 'e', 'published');";

/// Topic, key, payload, type, sequence. Offsets 4 and 5 of the views are dead letters.
const RECORDS: [(&str, &str, &str, &str, &str); 7] = [
    ("view-events", "1", r#"{"productId":1}"#, "ProductViewed", "1"),
    ("view-events", "1", r#"{"productId":1}"#, "ProductViewed", "2"),
    ("view-events", "1", r#"{"productId":1}"#, "ProductViewed", "1"),
    ("view-events", "2", r#"{"productId":2}"#, "ProductViewed", "3"),
    ("view-events", "2", r#"{"productId":2}"#, "ProductViewed", "4"),
    ("view-events", "2", "not json", "ProductViewed", "5"),
    ("stock-events", "1", r#"{"productId":1,"quantity":0,"version":8}"#, "StockDepleted", "6"),
];

/// Two databases, as in a large installation.
struct Stage {
    shop: TestDatabase,
    metrics: TestDatabase,
    topics: TestTopics,
}

impl Stage {
    async fn create() -> anyhow::Result<Self> {
        let shop = TestDatabase::create(&[outbox::migrations(), commerce_api::migrations()]).await?;
        let metrics = TestDatabase::create(&[inbox::migrations(), commerce_streamer::migrations()]).await?;
        let stage = Self { shop, metrics, topics: TestTopics::new()? };
        stage.in_shop(SHOP).await?;
        stage.in_metrics(METRICS).await?;
        let specs: Vec<TopicSpec> = TOPICS
            .iter()
            .map(|topic| TopicSpec {
                name: stage.topics.name(topic),
                partitions: 1,
                replication: 1,
                config: std::collections::BTreeMap::new(),
            })
            .collect();
        Admin::new(&stage.client())?.create_topics(&specs).await?;
        stage.publish().await?;
        Ok(stage)
    }

    async fn publish(&self) -> anyhow::Result<()> {
        let producer = AwaitedProducer::new(&ProducerSettings::new(self.client()))?;
        for (topic, key, payload, event_type, sequence) in RECORDS {
            let topic = self.topics.name(topic);
            let headers: [(&str, &[u8]); 3] = [
                ("ce_type", event_type.as_bytes()),
                ("ce_source", b"urn:outbox:1:1"),
                ("ce_sequence", sequence.as_bytes()),
            ];
            let record = OutgoingRecord {
                topic: &topic,
                key: Some(key.as_bytes()),
                payload: Some(payload.as_bytes()),
                headers: &headers,
                partition: None,
                timestamp: None,
            };
            producer.send_all(&[record]).await?;
        }
        Ok(())
    }

    fn client(&self) -> ClientSettings {
        ClientSettings::new(self.topics.brokers(), "test-verify")
    }

    async fn in_shop(&self, sql: &str) -> anyhow::Result<()> {
        self.execute(&self.shop, sql).await
    }

    async fn in_metrics(&self, sql: &str) -> anyhow::Result<()> {
        self.execute(&self.metrics, sql).await
    }

    async fn execute(&self, database: &TestDatabase, sql: &str) -> anyhow::Result<()> {
        let sql = sql.replace("PREFIX", self.topics.prefix());
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut database.connect().await?).await?;
        Ok(())
    }

    fn pipeline(&self) -> Pipeline {
        Pipeline {
            shop_url: self.shop.url().to_owned(),
            metrics_url: self.metrics.url().to_owned(),
            kafka: self.client(),
            topic_prefix: self.topics.prefix().to_owned(),
        }
    }

    async fn verify(&self, json: Option<PathBuf>) -> anyhow::Result<VerifyReport> {
        run(VerifySettings { wait: None, json, pipeline: self.pipeline() }).await
    }

    async fn unsettled(&self, wait: Duration) -> anyhow::Result<Vec<String>> {
        match wait_settled(&self.pipeline(), wait, |_| ()).await? {
            Settling::Settled(_) => Ok(Vec::new()),
            Settling::Unsettled(what) => Ok(what),
        }
    }
}

#[tokio::test]
async fn an_exact_state_passes_and_dead_letters_are_said() -> anyhow::Result<()> {
    let stage = Stage::create().await?;
    let directory = tempfile::tempdir()?;
    let json = directory.path().join("report.json");
    let report = stage.verify(Some(json.clone())).await?;
    assert!(report.exact, "{report}");
    assert!(!report.moved);
    assert_eq!(report.products, 2);
    assert_eq!(report.expected, report.found);
    assert_eq!((report.found.likes, report.found.sales, report.found.amount), (2, 7, 500));
    assert_eq!((report.found.views, report.found.sold_out), (3, 1));
    let views = &report.topics[0];
    assert_eq!((views.records, views.events, views.duplicates, views.dead_letters), (6, 3, 1, 2));
    assert!(views.complete);
    assert_eq!(report.dead_letters.len(), 2);
    assert!(report.to_string().contains("counted nowhere until redriven"), "{report}");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(json)?)?;
    assert_eq!(written["exact"], true);
    assert_eq!(written["found"]["sales"], 7);
    Ok(())
}

#[tokio::test]
async fn a_planted_difference_is_found_and_named() -> anyhow::Result<()> {
    let stage = Stage::create().await?;
    let plants = [
        (
            "update metrics.product_metrics set like_count = like_count + DELTA where product_id = 1",
            "product 1: likes",
        ),
        (
            "update metrics.product_metrics set sales_count = sales_count - DELTA where product_id = 2",
            "product 2: sales",
        ),
        (
            "update metrics.product_metrics set sales_amount = sales_amount + DELTA where product_id = 2",
            "product 2: amount",
        ),
        (
            "update metrics.product_metrics set view_count = view_count - DELTA where product_id = 1",
            "product 1: views",
        ),
        (
            "update metrics.product_stock set version = version + DELTA",
            "product 1: stock version 8 expected, 9 found",
        ),
        (
            "update metrics.product_stock set sold_out = (DELTA = -1)",
            "product 1: sold out 1 expected, 0 found",
        ),
        (
            "update shop.order_line set quantity = quantity + DELTA where order_id = 3",
            "product 2: sales 3 expected, 4 found",
        ),
        (
            "update shop.stock set quantity = quantity + DELTA where product_id = 1",
            "product 1: sold out (shop)",
        ),
        ("update inbox.progress set handled = handled + DELTA where topic like '%catalog%'", "BROKEN"),
        (
            "update metrics.applied set events = events + DELTA where kind = 'StockDepleted'",
            "BROKEN stock-events/0",
        ),
        (
            "update metrics.product_metrics_hourly set view_count = view_count + DELTA where product_id = 1",
            "BROKEN sum of view",
        ),
        ("update metrics.hourly_addition set likes = array[likes[1] + DELTA]", "BROKEN sum of like"),
    ];
    for (plant, named) in plants {
        let plant_in = async |by: &str| {
            let sql = plant.replace("DELTA", by);
            if plant.contains("shop.") { stage.in_shop(&sql).await } else { stage.in_metrics(&sql).await }
        };
        plant_in("1").await?;
        let report = stage.verify(None).await?;
        assert!(!report.exact && report.to_string().contains(named), "{plant}: {report}");
        plant_in("-1").await?;
    }
    assert!(stage.verify(None).await?.exact);
    Ok(())
}

#[tokio::test]
async fn what_is_not_settled_is_named() -> anyhow::Result<()> {
    let stage = Stage::create().await?;
    assert!(stage.unsettled(Duration::ZERO).await?.is_empty());
    let cases = [
        (
            "update inbox.progress set next_offset = 4 where topic like '%view%'",
            "update inbox.progress set next_offset = 6 where topic like '%view%'",
            "m is 2 records behind on view-events/0",
        ),
        (
            "update inbox.progress set topic = 'elsewhere' where topic like '%stock%'",
            "update inbox.progress set topic = 'PREFIXstock-events' where topic = 'elsewhere'",
            "stock-events/0 is consumed by nobody",
        ),
        (
            "update inbox.dead_letter set status = 'new'",
            "update inbox.dead_letter set status = 'published'",
            "2 dead letters are not on their topics",
        ),
        (
            "insert into metrics.cache_intent (product_id, version, sold_out) values (1, 8, true)",
            "delete from metrics.cache_intent",
            "1 cache invalidations are owed",
        ),
    ];
    for (breaking, mending, named) in cases {
        stage.in_metrics(breaking).await?;
        let unsettled = stage.unsettled(Duration::ZERO).await?;
        assert!(unsettled.len() == 1 && unsettled[0].ends_with(named), "{unsettled:?}");
        let report = stage.verify(None).await?;
        assert!(!report.exact && report.to_string().contains(named), "{report}");
        assert_eq!(report.products, 0, "an unsettled pipeline is not compared");
        stage.in_metrics(mending).await?;
    }
    assert!(stage.unsettled(Duration::ZERO).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_event_in_the_outbox_is_waited_for() -> anyhow::Result<()> {
    let stage = Stage::create().await?;
    let log = EventLog::new(stage.topics.prefix().to_owned(), AppendLimits::default(), None);
    let view = ImportedView { user_id: None, product_id: 1, viewed_at: DateTime::UNIX_EPOCH };
    import_views(&mut stage.shop.connect().await?, &log, &[view]).await?;
    assert_eq!(stage.unsettled(Duration::ZERO).await?, ["1 events are not published"]);
    let pipeline = stage.pipeline();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let waiting = tokio::spawn(async move {
        wait_settled(&pipeline, Duration::from_secs(600), |what| drop(told.send(what.to_owned()))).await
    });
    assert_eq!(heard.recv().await.as_deref(), Some("1 events are not published"));
    stage.in_shop("update outbox.shard set position = pg_current_snapshot()").await?;
    assert!(matches!(waiting.await??, Settling::Settled(ends) if ends.len() == 4));
    Ok(())
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_an_error() -> anyhow::Result<()> {
    let stage = Stage::create().await?;
    let pipeline = Pipeline { topic_prefix: "no-such-".to_owned(), ..stage.pipeline() };
    let outcome = wait_settled(&pipeline, Duration::ZERO, |_| ()).await;
    assert!(outcome.is_err_and(|error| error.to_string().contains("no-such-catalog-events")));
    Ok(())
}
