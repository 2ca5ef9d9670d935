//! The contract for machines: JSON Schemas made of the Rust types, an `AsyncAPI` document around them, and the rule by which
//! they may change.
//!
//! Invariant: what [`crate::decode`] accepts, the schema of its type accepts. The other way round it holds but for what JSON
//! Schema cannot say: an order's amount, the record's key, a field that stands twice, and how a number is written.

mod compatibility;
mod document;
mod headers;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

pub use compatibility::{Contract, breaks};
pub use document::asyncapi;

use crate::event::{OrderV1, ProductLikeV1, ProductViewV1, StockV1, TypeName};
use crate::topic::TOPICS;

/// Name of the schema of an event's headers.
const HEADERS: &str = "headers";
/// Name of the schema of a dead letter's headers.
const DEAD_LETTER_HEADERS: &str = "dead-letter-headers";

/// The schema of an event's payload, of draft 2020-12, complete in itself.
#[must_use]
pub fn payload(name: TypeName) -> Value {
    let mut schema = match name {
        TypeName::ProductLiked | TypeName::ProductUnliked => schema_of::<ProductLikeV1>(),
        TypeName::OrderCompleted | TypeName::OrderCancelled => schema_of::<OrderV1>(),
        TypeName::StockDepleted | TypeName::StockReplenished => schema_of::<StockV1>(),
        TypeName::ProductViewed => schema_of::<ProductViewV1>(),
    };
    schema["title"] = name.as_str().into();
    schema["description"] = summary(name).into();
    match name {
        TypeName::StockDepleted => schema["properties"]["quantity"]["maximum"] = 0.into(),
        TypeName::StockReplenished => schema["properties"]["quantity"]["minimum"] = 1.into(),
        TypeName::ProductLiked
        | TypeName::ProductUnliked
        | TypeName::OrderCompleted
        | TypeName::OrderCancelled
        | TypeName::ProductViewed => {}
    }
    schema
}

/// The contract as it is now: every topic with its types, and every schema by the name of its file.
#[must_use]
pub fn contract() -> Contract {
    let types_of = |topic: &str| {
        TypeName::ALL
            .into_iter()
            .filter(|name| name.topic() == topic)
            .map(|name| name.as_str().to_owned())
            .collect()
    };
    let payloads = TypeName::ALL.into_iter().map(|name| (name.as_str().to_owned(), payload(name)));
    let others = [
        (HEADERS.to_owned(), schema_of::<headers::EventHeaders>()),
        (DEAD_LETTER_HEADERS.to_owned(), schema_of::<headers::DeadLetterHeaders>()),
    ];
    Contract {
        topics: TOPICS.into_iter().map(|topic| (topic.to_owned(), types_of(topic))).collect(),
        schemas: payloads.chain(others).collect::<BTreeMap<_, _>>(),
    }
}

/// What has happened when an event of this type comes.
const fn summary(name: TypeName) -> &'static str {
    match name {
        TypeName::ProductLiked => "A buyer likes a product.",
        TypeName::ProductUnliked => "A buyer takes a like back.",
        TypeName::OrderCompleted => "An order was placed and its stock reserved.",
        TypeName::OrderCancelled => "A completed order was taken back, all of it.",
        TypeName::StockDepleted => "The last unit of a product was sold.",
        TypeName::StockReplenished => "A product that was sold out is available again.",
        TypeName::ProductViewed => "A product's page was shown.",
    }
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings
        .with_transform(RecursiveTransform(bound_integers))
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// `format` only describes: what does not fit 64 bits has to be excluded by bounds.
fn bound_integers(schema: &mut schemars::Schema) {
    if schema.get("format").and_then(Value::as_str) == Some("int64") {
        for (keyword, bound) in [("minimum", json!(i64::MIN)), ("maximum", json!(i64::MAX))] {
            if schema.get(keyword).is_none() {
                schema.insert(keyword.to_owned(), bound);
            }
        }
    }
}
