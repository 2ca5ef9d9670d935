//! Records that can never be counted, and a list of which they were.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use commerce_events::{CATALOG_EVENTS, DEAD_LETTER_SUFFIX, ORDER_EVENTS, STOCK_EVENTS, TOPICS, VIEW_EVENTS};
use kafka_client::{ClientSettings, TopicReader};
use testkit::eventually;
use uuid::Uuid;

use crate::harness::Shop;
use crate::records::{Record, Writer};

/// A product of which the database takes no counts.
const FORBIDDEN: i64 = 999_999;
const FORBID: &str =
    "alter table metrics.product_metrics add constraint forbidden check (product_id <> 999999)";
/// Partitions of every topic (setting `kafka.partitions`).
const PARTITIONS: usize = 6;

/// Sends it, and knows what must be said of it.
pub(super) struct Poison {
    writer: Writer,
    /// Event and reason of every letter that is due.
    due: Vec<(String, &'static str)>,
}

impl Poison {
    /// From now on the database refuses what is forbidden.
    pub(super) async fn begin(shop: &Shop) -> Result<Self> {
        sqlx::query(FORBID).execute(&mut shop.connect().await?).await?;
        Ok(Self { writer: Writer::new(shop)?, due: Vec::new() })
    }

    /// One dose for the partitions of a number: in every topic a record that cannot be read, and in those of counts two that the
    /// database refuses, so that their batch is cut; around those of views are good ones of `product`.
    pub(super) async fn send(&mut self, number: usize, product: i64) -> Result<()> {
        let partition = i32::try_from(number % PARTITIONS)?;
        let like = format!(r#"{{"productId":{FORBIDDEN},"userId":1}}"#);
        let order = format!(
            r#"{{"orderId":{FORBIDDEN},"lines":[{{"productId":{FORBIDDEN},"quantity":1,"unitPrice":1}}]}}"#
        );
        let view = |product: i64| format!(r#"{{"productId":{product}}}"#);
        let mut records = vec![
            self.due("malformed", Record::event(CATALOG_EVENTS, "ProductLiked", product, "liked")),
            self.due("malformed", Record::event(ORDER_EVENTS, "OrderCompleted", product, "ordered")),
            self.due("malformed", Record::event(STOCK_EVENTS, "StockDepleted", product, "sold out")),
            self.due("malformed", Record::event(VIEW_EVENTS, "ProductViewed", product, "viewed")),
            good(Record::event(VIEW_EVENTS, "ProductViewed", product, view(product))),
        ];
        for _ in 0..2 {
            for (topic, event_type, value) in [
                (CATALOG_EVENTS, "ProductLiked", like.clone()),
                (ORDER_EVENTS, "OrderCompleted", order.clone()),
                (VIEW_EVENTS, "ProductViewed", view(FORBIDDEN)),
            ] {
                records.push(self.due("constraint", Record::event(topic, event_type, FORBIDDEN, value)));
            }
        }
        records.push(good(Record::event(VIEW_EVENTS, "ProductViewed", product, view(product))));
        let records: Vec<Record> = records.into_iter().map(|record| record.on(partition)).collect();
        self.writer.write(&records).await
    }

    /// Notes a letter that is due.
    fn due(&mut self, reason: &'static str, record: Record) -> Record {
        let id = Uuid::now_v7().to_string();
        let record = record.with("ce_id", &id);
        self.due.push((id, reason));
        record
    }

    /// Waits until the dead letters are these and no others, each on its topic.
    pub(super) async fn judge(mut self, shop: &Shop) -> Result<()> {
        self.due.sort_unstable();
        let due: Vec<(String, String)> =
            self.due.into_iter().map(|(id, reason)| (id, reason.to_owned())).collect();
        let mut connection = shop.connect().await?;
        let listed = "select event_id, reason from inbox.dead_letter order by 1, 2";
        let mut letters: Vec<(String, String)> = Vec::new();
        eventually("every poison is a dead letter", async || {
            letters = sqlx::query_as(listed).fetch_all(&mut connection).await?;
            Ok((letters.len() >= due.len()).then_some(()))
        })
        .await
        .with_context(|| format!("{} letters are due, {} there", due.len(), letters.len()))?;
        ensure!(letters == due, "due are {due:?}, there are {letters:?}");
        eventually("every letter is published", async || {
            let unpublished = "select count(*) from inbox.dead_letter where status = 'new'";
            let letters: i64 = sqlx::query_scalar(unpublished).fetch_one(&mut connection).await?;
            Ok((letters == 0).then_some(()))
        })
        .await?;
        let listed = "select id::text from inbox.dead_letter";
        let letters: Vec<String> = sqlx::query_scalar(listed).fetch_all(&mut connection).await?;
        let (letters, published) = (BTreeSet::from_iter(letters), published(shop).await?);
        ensure!(published == letters, "letters are {letters:?}, on their topics are {published:?}");
        Ok(())
    }
}

fn good(record: Record) -> Record {
    record.with("ce_id", &Uuid::now_v7().to_string())
}

/// The letters on the dead-letter topics; one whose publisher died may be there twice.
async fn published(shop: &Shop) -> Result<BTreeSet<String>> {
    let client = ClientSettings::new(shop.topics.brokers(), "test");
    let topics = TOPICS.map(|topic| shop.topics.name(&format!("{topic}{DEAD_LETTER_SUFFIX}")));
    let reading = tokio::task::spawn_blocking(move || {
        let mut published = BTreeSet::new();
        for topic in topics {
            let mut reader = TopicReader::open(&client, &topic)?;
            while let Some(record) = reader.next()? {
                let id = record.header("x-dlq-id").context("a letter without its id")?;
                published.insert(String::from_utf8(id.to_vec())?);
            }
        }
        Ok(published)
    });
    reading.await?
}
