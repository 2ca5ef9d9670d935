//! The records on the brokers are those of the `AsyncAPI` document: topics, keys, headers, payloads.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kafka_client::{ClientSettings, StoredRecord, TopicReader};
use reqwest::Method;
use serde_json::{Map, Value};
use testkit::eventually;

use crate::harness::Shop;

/// Records of each topic at the end of the test: the like is there twice, as it was redriven.
const EXPECTED: [(&str, usize); 5] = [
    ("catalog-events", 3),
    ("catalog-events-dlt", 1),
    ("order-events", 2),
    ("stock-events", 2),
    ("view-events", 1),
];
/// Only a letter that does not fit a record has it.
const NEVER_SENT: &str = "x-dlq-value-bytes";

/// The document, with everything in place of the references to it.
fn document() -> Result<Value> {
    let text = read("asyncapi.json")?;
    resolve(&text, &text)
}

fn read(file: &str) -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../commerce-events").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

fn resolve(value: &Value, root: &Value) -> Result<Value> {
    Ok(match value {
        Value::Object(fields) => match fields.get("$ref").and_then(Value::as_str) {
            Some(reference) => match reference.strip_prefix('#') {
                Some(pointer) => resolve(root.pointer(pointer).with_context(|| reference.to_owned())?, root)?,
                None => read(reference)?,
            },
            None => {
                let resolved = fields.iter().map(|(name, field)| Ok((name.clone(), resolve(field, root)?)));
                Value::Object(resolved.collect::<Result<Map<_, _>>>()?)
            }
        },
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| resolve(item, root)).collect::<Result<_>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    })
}

fn check(schema: &Value, value: &Value) -> Result<()> {
    let validator = jsonschema::validator_for(schema)?;
    validator.validate(value).map_err(|error| anyhow::anyhow!("{error}")).with_context(|| value.to_string())
}

/// The schemas of headers, by name.
fn described(message: &Value) -> Map<String, Value> {
    let schema = &message["headers"];
    let parts = schema["allOf"].as_array().map_or(std::slice::from_ref(schema), Vec::as_slice);
    let properties = parts.iter().rev().filter_map(|part| part["properties"].as_object().cloned());
    properties.flatten().collect()
}

/// Compares a record with what the document says of its topic; answers the names of its headers.
fn compare(document: &Value, topic: &str, record: &StoredRecord) -> Result<BTreeSet<String>> {
    let messages = &document["channels"][topic]["messages"];
    let event_type = std::str::from_utf8(record.header("ce_type").context("no ce_type")?)?;
    let is_letter = topic.ends_with("-dlt");
    let message = &messages[if is_letter { "DeadLetter" } else { event_type }];
    let mut known = described(message);
    if is_letter {
        // Those of the record that failed are there as well.
        known.extend(described(&document["components"]["messages"][event_type]));
    }
    let mut headers = Map::new();
    for (name, bytes) in &record.headers {
        let bytes = bytes.as_deref().context("a header without value")?;
        let Some(schema) = known.get(name) else { bail!("header {name} is not described") };
        let text = match schema["contentEncoding"].as_str() {
            Some(_) => STANDARD.encode(bytes),
            None => std::str::from_utf8(bytes)?.to_owned(),
        };
        ensure!(headers.insert(name.clone(), text.into()).is_none(), "header {name} stands twice");
    }
    let names = headers.keys().cloned().collect();
    check(&message["headers"], &Value::Object(headers))?;
    let key = std::str::from_utf8(record.key.as_deref().context("no key")?)?;
    check(&message["bindings"]["kafka"]["key"], &key.into())?;
    let payload = serde_json::from_slice(record.value.as_deref().context("no value")?)?;
    check(&message["payload"], &payload)?;
    Ok(names)
}

async fn records(shop: &Shop, topic: &str) -> Result<Vec<StoredRecord>> {
    let (client, topic) = (ClientSettings::new(shop.topics.brokers(), "test"), shop.topics.name(topic));
    tokio::task::spawn_blocking(move || {
        let mut reader = TopicReader::open(&client, &topic)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    })
    .await?
}

/// Everything that makes an event of each type, a dead letter, and a record that is redriven.
async fn make_events(shop: &Shop) -> Result<()> {
    let product = shop.product("described", 1).await?;
    let like = format!("/api/v1/like/products/{product}");
    let mut connection = shop.connect().await?;
    sqlx::query("alter table metrics.product_metrics add constraint no_likes check (like_count = 0)")
        .execute(&mut connection)
        .await?;
    shop.succeed(Method::POST, &like, None).await?;
    eventually("the like is on the topic of dead letters", async || {
        Ok((records(shop, "catalog-events-dlt").await?.len() == 1).then_some(()))
    })
    .await?;
    sqlx::query("alter table metrics.product_metrics drop constraint no_likes")
        .execute(&mut connection)
        .await?;
    let redrive = ["redrive", "--all", "--by", "ada", "--reason", "mended"];
    let redriven = shop.command("dead-letters").args(redrive).output()?;
    ensure!(redriven.status.success(), "{}", String::from_utf8_lossy(&redriven.stderr));
    shop.shows(product, 1, 0).await?;
    shop.succeed(Method::DELETE, &like, None).await?;
    shop.succeed(Method::GET, &format!("/api/v1/products/{product}"), None).await?;
    let (status, order) = shop.order(product, 1).await?;
    ensure!(status == 201, "{status} {order}");
    let order = order["data"]["orderId"].as_i64().with_context(|| format!("no id in {order}"))?;
    shop.succeed(Method::POST, &format!("/api/v1/orders/{order}/cancel"), None).await?;
    Ok(())
}

#[tokio::test]
async fn every_record_is_as_the_asyncapi_document_says() -> Result<()> {
    let shop = Shop::open().await?;
    let _api = shop.start("api").await?;
    let _relay = shop.start("relay").await?;
    let _streamer = shop.start("streamer").await?;
    make_events(&shop).await?;
    let document = document()?;
    let mut never_sent = BTreeSet::new();
    let (mut types, mut sent) = (BTreeSet::new(), BTreeSet::new());
    for (topic, expected) in EXPECTED {
        let found = eventually(topic, async || {
            let found = records(&shop, topic).await?;
            Ok((found.len() == expected).then_some(found))
        })
        .await?;
        for record in found {
            types.insert(String::from_utf8_lossy(record.header("ce_type").unwrap_or_default()).into_owned());
            sent.extend(compare(&document, topic, &record).with_context(|| format!("{topic}: {record:?}"))?);
        }
    }
    for (name, message) in document["components"]["messages"].as_object().context("no messages")? {
        ensure!(name == "DeadLetter" || types.contains(name), "no record of {name} was made");
        never_sent.extend(described(message).keys().filter(|name| !sent.contains(*name)).cloned());
    }
    ensure!(never_sent == BTreeSet::from([NEVER_SENT.to_owned()]), "described and not sent: {never_sent:?}");
    shop.verify()
}
