//! The `AsyncAPI` document: which topics there are, what stands in their records, and in which order.

use serde_json::{Map, Value, json};

use super::{DEAD_LETTER_HEADERS, HEADERS, summary};
use crate::event::TypeName;
use crate::topic::{CATALOG_EVENTS, DEAD_LETTER_SUFFIX, ORDER_EVENTS, STOCK_EVENTS, TOPICS, VIEW_EVENTS};

/// Version of the Kafka bindings that the document uses.
const BINDING_VERSION: &str = "0.5.0";
/// The canonical decimal form of a positive `i64`, but for its last digits.
const ID_KEY: &str = "^[1-9][0-9]{0,18}$";

/// The document, of `AsyncAPI` 3.0, with schemas in files below `schemas/`.
#[must_use]
pub fn asyncapi() -> Value {
    let dead_letter_topics = TOPICS.map(|topic| format!("{topic}{DEAD_LETTER_SUFFIX}"));
    let events = TOPICS.iter().map(|topic| ((*topic).to_owned(), event_channel(topic)));
    let letters = TOPICS.iter().zip(&dead_letter_topics);
    let letters = letters.map(|(topic, name)| (name.clone(), dead_letter_channel(topic, name)));
    let operations = TOPICS.iter().map(|topic| (*topic).to_owned()).chain(dead_letter_topics.clone());
    let mut messages: Map<String, Value> =
        TypeName::ALL.into_iter().map(|name| (name.as_str().to_owned(), event_message(name))).collect();
    messages.insert("DeadLetter".to_owned(), dead_letter_message());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Commerce",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Events of a shop on Kafka: likes, orders, stock and views. An event may come more than once, with the same `ce_id`, and never \
                not at all. A setting (`kafka.topic_prefix`, empty by default) stands in front of every topic. Rules and examples: docs/events.md.",
            "license": {"name": "Apache-2.0 OR MIT"},
        },
        "defaultContentType": "application/json",
        "channels": events.chain(letters).collect::<Map<_, _>>(),
        "operations": operations.map(|topic| (format!("send-{topic}"), operation(&topic))).collect::<Map<_, _>>(),
        "components": {"messages": messages},
    })
}

fn event_channel(topic: &str) -> Value {
    let description = match topic {
        CATALOG_EVENTS => {
            "Likes. Key: product id. What one buyer does to a product comes in the order of commits; buyers among each other have none."
        }
        ORDER_EVENTS => "Orders. Key: order id. What happens to an order comes in the order of commits.",
        STOCK_EVENTS => {
            "States of stock. Key: product id. In the order of versions; after a redrive an old one may come late, so the highest version holds."
        }
        VIEW_EVENTS => "Views. Key: product id. In no particular order: views of a product wait for nobody.",
        _ => "",
    };
    let names = TypeName::ALL.into_iter().filter(|name| name.topic() == topic).map(TypeName::as_str);
    channel(topic, description, names)
}

fn dead_letter_channel(topic: &str, name: &str) -> Value {
    let description = format!(
        "Records of {topic} that a consumer group refused: key and value as they were, on the same number of partition. Each group sends its own."
    );
    channel(name, &description, std::iter::once("DeadLetter"))
}

fn channel<'a>(topic: &str, description: &str, messages: impl Iterator<Item = &'a str>) -> Value {
    let reference = |name: &str| json!({"$ref": format!("#/components/messages/{name}")});
    json!({
        "address": topic,
        "description": description,
        "messages": messages.map(|name| (name.to_owned(), reference(name))).collect::<Map<_, _>>(),
        "bindings": {"kafka": {"topic": topic, "bindingVersion": BINDING_VERSION}},
    })
}

/// Without messages: any that the channel has.
fn operation(topic: &str) -> Value {
    json!({"action": "send", "channel": {"$ref": format!("#/channels/{topic}")}})
}

fn event_message(name: TypeName) -> Value {
    let key = format!("Id of the {}, in decimal.", name.aggregate_type());
    json!({
        "name": name.as_str(),
        "summary": summary(name),
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": file_of(HEADERS)},
                {"type": "object", "properties": {"ce_type": {"const": name.as_str()}}},
            ],
        },
        "payload": {"$ref": file_of(name.as_str())},
        "bindings": binding(&json!({"type": "string", "pattern": ID_KEY, "description": key})),
    })
}

fn dead_letter_message() -> Value {
    json!({
        "name": "DeadLetter",
        "summary": "A record that can never be processed as it is.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": file_of(DEAD_LETTER_HEADERS)},
        "payload": {"description": "The value of the record, byte for byte, whatever it was; cut if the record would be too large."},
        "bindings": binding(&json!({"description": "The key of the record, whatever it was."})),
    })
}

fn binding(key: &Value) -> Value {
    json!({"kafka": {"key": key, "bindingVersion": BINDING_VERSION}})
}

fn file_of(name: &str) -> String {
    format!("./schemas/{name}.json")
}
