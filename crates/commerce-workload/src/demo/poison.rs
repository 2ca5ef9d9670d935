//! Records that can never succeed, one for each way to be wrong. Each must become exactly one dead letter.
//!
//! They name real products, so that one which is counted after all shows up as a difference.

use commerce_events::{CATALOG_EVENTS, ORDER_EVENTS, STOCK_EVENTS, VIEW_EVENTS};
use uuid::Uuid;

/// The header by which the demo knows its own poison again; no consumer looks at it.
pub(super) const MARK: &str = "demo-poison";
/// How deep the nested record goes: far beyond what a recursive parser survives.
const DEPTH: usize = 20_000;

/// A poison record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Poison {
    /// What is wrong with it.
    pub(super) name: &'static str,
    /// Without prefix.
    pub(super) topic: &'static str,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(&'static str, Vec<u8>)>,
}

/// A right record, to be spoilt.
type Base = fn(i64) -> Poison;

/// What is done to a right record; functions take its product.
#[derive(Clone, Copy)]
enum Spoil {
    Text(fn(i64) -> String),
    Bytes(&'static [u8]),
    NoValue,
    Header(&'static str, Option<&'static str>),
    Key(fn(i64) -> String),
    NoKey,
}

/// Every kind: its name, the record that it spoils, and how.
const KINDS: [(&str, Base, Spoil); 25] = [
    ("not JSON", like, Spoil::Text(|product| format!("somebody likes product {product}"))),
    ("truncated JSON", like, Spoil::Text(|product| format!(r#"{{"productId":{product},"userId":"#))),
    ("empty value", like, Spoil::Bytes(b"")),
    ("no value", like, Spoil::NoValue),
    ("text for a number", like, Spoil::Text(|product| format!(r#"{{"productId":"{product}","userId":1}}"#))),
    ("missing field", like, Spoil::Bytes(br#"{"userId":1}"#)),
    ("negative product", like, Spoil::Bytes(br#"{"productId":-5,"userId":1}"#)),
    ("oversized number", like, Spoil::Bytes(br#"{"productId":99999999999999999999,"userId":1}"#)),
    ("bytes that are no UTF-8", like, Spoil::Bytes(b"{\"product\xff\xfeId\":1,\"userId\":1}")),
    ("NUL byte", like, Spoil::Text(|product| format!("{{\"productId\":{product},\0\"userId\":1}}"))),
    (
        "deep nesting",
        like,
        Spoil::Text(|_| format!(r#"{{"productId":{}1{}}}"#, "[".repeat(DEPTH), "]".repeat(DEPTH))),
    ),
    ("unknown major version", like, Spoil::Header("ce_type", Some("ProductLiked.v2"))),
    ("no event type", like, Spoil::Header("ce_type", None)),
    ("no event id", like, Spoil::Header("ce_id", None)),
    ("event id that is no UUID", like, Spoil::Header("ce_id", Some("forty-two"))),
    ("sequence that is no number", like, Spoil::Header("ce_sequence", Some("abc"))),
    ("key of another product", like, Spoil::Key(|product| (product + 1).to_string())),
    ("no key", like, Spoil::NoKey),
    ("negative quantity", order, Spoil::Text(|product| order_json(product, "-3", "1"))),
    ("zero quantity", order, Spoil::Text(|product| order_json(product, "0", "1"))),
    ("huge quantity", order, Spoil::Text(|product| order_json(product, "1000001", "1"))),
    ("huge price", order, Spoil::Text(|product| order_json(product, "1", "9223372036854775807"))),
    ("order without lines", order, Spoil::Text(|product| format!(r#"{{"orderId":{product},"lines":[]}}"#))),
    ("sold out with units left", stock, Spoil::Text(|product| stock_json(product, 7))),
    ("empty object", view, Spoil::Bytes(b"{}")),
];

/// Poison number `number` (kinds repeat after the last) around a product; `event_id` is its identity.
pub(super) fn poison(number: usize, product_id: i64, event_id: Uuid, time: &str) -> Poison {
    let (name, base, spoil) = KINDS[number % KINDS.len()];
    let mut poison = base(product_id);
    poison.name = name;
    header(&mut poison, "ce_specversion", Some("1.0"));
    header(&mut poison, "ce_id", Some(&event_id.to_string()));
    header(&mut poison, "ce_source", Some("urn:demo:poison"));
    header(&mut poison, "ce_time", Some(time));
    header(&mut poison, "content-type", Some("application/json"));
    header(&mut poison, MARK, Some(name));
    match spoil {
        Spoil::Text(text) => poison.value = Some(text(product_id).into_bytes()),
        Spoil::Bytes(bytes) => poison.value = Some(bytes.to_vec()),
        Spoil::NoValue => poison.value = None,
        Spoil::Header(name, value) => header(&mut poison, name, value),
        Spoil::Key(key) => poison.key = Some(key(product_id).into_bytes()),
        Spoil::NoKey => poison.key = None,
    }
    poison
}

fn record(topic: &'static str, event_type: &str, product_id: i64, json: String) -> Poison {
    Poison {
        name: "",
        topic,
        key: Some(product_id.to_string().into_bytes()),
        value: Some(json.into_bytes()),
        headers: vec![("ce_type", event_type.as_bytes().to_vec())],
    }
}

fn like(product_id: i64) -> Poison {
    record(CATALOG_EVENTS, "ProductLiked", product_id, format!(r#"{{"productId":{product_id},"userId":1}}"#))
}

/// An order with the product's number as its own, so that every poison has a key of the same form.
fn order(product_id: i64) -> Poison {
    record(ORDER_EVENTS, "OrderCompleted", product_id, order_json(product_id, "1", "1"))
}

fn stock(product_id: i64) -> Poison {
    record(STOCK_EVENTS, "StockDepleted", product_id, stock_json(product_id, 0))
}

fn view(product_id: i64) -> Poison {
    record(VIEW_EVENTS, "ProductViewed", product_id, format!(r#"{{"productId":{product_id}}}"#))
}

fn order_json(product_id: i64, quantity: &str, price: &str) -> String {
    format!(
        r#"{{"orderId":{product_id},"lines":[{{"productId":{product_id},"quantity":{quantity},"unitPrice":{price}}}]}}"#
    )
}

/// The version is higher than any real one: applied, it would stay.
fn stock_json(product_id: i64, quantity: i64) -> String {
    format!(r#"{{"productId":{product_id},"quantity":{quantity},"version":999999}}"#)
}

/// Sets a header, or takes it away.
fn header(poison: &mut Poison, name: &'static str, value: Option<&str>) {
    poison.headers.retain(|(known, _)| *known != name);
    if let Some(value) = value {
        poison.headers.push((name, value.as_bytes().to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn made(number: usize) -> Poison {
        poison(number, 12, Uuid::nil(), "2026-01-01T00:00:00Z")
    }

    fn header_of<'a>(poison: &'a Poison, name: &str) -> Option<&'a str> {
        let found = poison.headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| std::str::from_utf8(value).unwrap())
    }

    /// Whether the record lacks what tells events apart.
    fn has_broken_identity(poison: &Poison) -> bool {
        let id = header_of(poison, "ce_id").is_some_and(|id| Uuid::parse_str(id).is_ok());
        let sequence = header_of(poison, "ce_sequence").is_none_or(|number| number.parse::<i64>().is_ok());
        !id || !sequence || header_of(poison, "ce_type").is_none()
    }

    #[test]
    fn every_kind_is_refused_by_the_contract_or_has_no_identity() {
        for number in 0..KINDS.len() {
            let poison = made(number);
            let event_type = header_of(&poison, "ce_type").unwrap_or_default();
            let decoded = commerce_events::decode(event_type, poison.key.as_deref(), poison.value.as_deref());
            match decoded {
                Ok(event) => assert!(has_broken_identity(&poison), "{} is {event:?}", poison.name),
                // An unknown type would be skipped, not refused; only the missing one ends here.
                Err(commerce_events::DecodeError::UnknownType(name)) => assert_eq!(name, ""),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn what_the_kinds_spoil_was_right_before() {
        for (base, event_type) in [
            (like(12), "ProductLiked"),
            (order(12), "OrderCompleted"),
            (stock(12), "StockDepleted"),
            (view(12), "ProductViewed"),
        ] {
            commerce_events::decode(event_type, base.key.as_deref(), base.value.as_deref()).unwrap();
        }
    }

    #[test]
    fn kinds_are_distinct_reach_every_topic_and_repeat_after_the_last() {
        let names: HashSet<&str> = (0..25).map(|number| made(number).name).collect();
        assert_eq!(names.len(), 25);
        let topics: HashSet<&str> = (0..25).map(|number| made(number).topic).collect();
        assert_eq!(topics, HashSet::from(commerce_events::TOPICS));
        assert_eq!(made(27), made(2));
    }
}
