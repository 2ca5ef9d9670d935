//! The decoder and the schemas say the same.

use std::cell::Cell;
use std::collections::BTreeMap;

use commerce_events::schema::payload;
use commerce_events::{
    DecodeError, LINES_MAX, ORDER_AMOUNT_MAX, QUANTITY_MAX, TypeName, UNIT_PRICE_MAX, decode,
};
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

/// A validator for each type.
pub(crate) struct Schemas(BTreeMap<&'static str, Validator>);

impl Schemas {
    pub(crate) fn new() -> Self {
        let of = |name: TypeName| {
            (name.as_str(), jsonschema::validator_for(&payload(name)).expect("a sound schema"))
        };
        Self(TypeName::ALL.into_iter().map(of).collect())
    }

    pub(crate) fn accept(&self, name: TypeName, value: &Value) -> bool {
        self.0[name.as_str()].is_valid(value)
    }
}

const ORDER: &str = r#"{"orderId":1,"userId":7,"lines":[{"productId":1,"quantity":1,"unitPrice":1}]}"#;
const LIKE: &str = r#"{"productId":1,"userId":7}"#;
const DEPLETED: &str = r#"{"productId":1,"quantity":0,"version":1}"#;
const REPLENISHED: &str = r#"{"productId":1,"quantity":1,"version":1}"#;

/// Payloads that both accept: name, text.
fn good() -> Vec<(TypeName, String)> {
    let order = |change: &str, to: &str| (TypeName::OrderCompleted, ORDER.replacen(change, to, 1));
    vec![
        (TypeName::OrderCompleted, ORDER.to_owned()),
        (TypeName::OrderCancelled, ORDER.to_owned()),
        (TypeName::ProductLiked, LIKE.to_owned()),
        (TypeName::ProductUnliked, LIKE.to_owned()),
        (TypeName::ProductViewed, LIKE.to_owned()),
        (TypeName::ProductViewed, r#"{"productId":1}"#.to_owned()),
        (TypeName::StockDepleted, DEPLETED.to_owned()),
        (TypeName::StockReplenished, REPLENISHED.to_owned()),
        (TypeName::StockReplenished, REPLENISHED.replace(":1", &format!(":{}", i64::MAX))),
        order(r#""userId":7,"#, ""),
        order(r#""userId":7"#, r#""userId":null"#),
        order(r#""userId":7"#, r#""userId":-9223372036854775808"#),
        order(r#""quantity":1"#, &format!(r#""quantity":{QUANTITY_MAX}"#)),
        order(r#""unitPrice":1"#, &format!(r#""unitPrice":{UNIT_PRICE_MAX}"#)),
        order(r#""unitPrice":1"#, r#""unitPrice":0"#),
        order(r#""lines""#, r#""later":[[1.5,{}]],"lines""#),
        (TypeName::OrderCompleted, lines(LINES_MAX)),
    ]
}

/// Payloads that both refuse.
fn bad() -> Vec<(TypeName, String)> {
    let order = |change: &str, to: &str| (TypeName::OrderCompleted, ORDER.replacen(change, to, 1));
    let mut found: Vec<(TypeName, String)> = ["1", "\"text\"", "null", "true", "[]", "[1,7]", "{}"]
        .into_iter()
        .flat_map(|json| TypeName::ALL.map(|name| (name, json.to_owned())))
        .collect();
    for number in ["0", "-1", "9223372036854775808", "1.5", "null", "\"1\"", "[1]", "{}", "true"] {
        for name in ["orderId", "quantity"] {
            found.push(order(&format!(r#""{name}":1"#), &format!(r#""{name}":{number}"#)));
        }
        let product = format!(r#""productId":{number}"#);
        found.push(order(r#""productId":1"#, &product));
        found.push((TypeName::ProductLiked, LIKE.replace(r#""productId":1"#, &product)));
        found.push((TypeName::ProductViewed, LIKE.replace(r#""productId":1"#, &product)));
        found.push((TypeName::StockDepleted, DEPLETED.replace(r#""productId":1"#, &product)));
        found.push((
            TypeName::StockDepleted,
            DEPLETED.replace(r#""version":1"#, &format!(r#""version":{number}"#)),
        ));
        found.push((
            TypeName::StockReplenished,
            REPLENISHED.replace(r#""quantity":1"#, &format!(r#""quantity":{number}"#)),
        ));
    }
    found.extend([
        (TypeName::StockDepleted, REPLENISHED.to_owned()),
        (TypeName::StockDepleted, DEPLETED.replace(":0", ":-1")),
        (TypeName::ProductLiked, LIKE.replace("7", "null")),
        (TypeName::ProductLiked, LIKE.replace("userId", "userID")),
        (TypeName::ProductLiked, LIKE.replace("7", "9223372036854775808")),
        (TypeName::ProductViewed, LIKE.replace("7", "-10000000000000000000")),
        order(r#""quantity":1"#, &format!(r#""quantity":{}"#, QUANTITY_MAX + 1)),
        order(r#""unitPrice":1"#, &format!(r#""unitPrice":{}"#, UNIT_PRICE_MAX + 1)),
        order(r#""unitPrice":1"#, r#""unitPrice":-1"#),
        order(r#","unitPrice":1"#, ""),
        order(r#"{"productId":1,"quantity":1,"unitPrice":1}"#, ""),
        order(r#"{"productId":1,"quantity":1,"unitPrice":1}"#, "[1,1,1]"),
        order(r#"{"productId":1,"quantity":1,"unitPrice":1}"#, "null"),
        order(r#"[{"productId":1,"quantity":1,"unitPrice":1}]"#, "{}"),
        (TypeName::OrderCompleted, lines(LINES_MAX + 1)),
    ]);
    found
}

/// What JSON Schema cannot say.
fn refused_by_the_decoder_alone() -> Vec<(TypeName, String)> {
    let amount = ORDER_AMOUNT_MAX / UNIT_PRICE_MAX;
    let line = format!(r#"{{"productId":1,"quantity":{amount},"unitPrice":{UNIT_PRICE_MAX}}}"#);
    vec![
        (TypeName::OrderCompleted, format!(r#"{{"orderId":1,"lines":[{line},{line}]}}"#)),
        (TypeName::ProductLiked, r#"{"productId":1,"userId":7,"userId":7}"#.to_owned()),
        (TypeName::ProductLiked, r#"{"productId":1.0,"userId":7}"#.to_owned()),
        (TypeName::ProductLiked, r#"{"productId":1e0,"userId":7}"#.to_owned()),
        (TypeName::ProductLiked, r#"{"productId":1,"userId":-0}"#.to_owned()),
        (
            TypeName::ProductLiked,
            format!(r#"{{"productId":1,"userId":7,"later":{}1{}}}"#, "[".repeat(70), "]".repeat(70)),
        ),
    ]
}

fn lines(count: usize) -> String {
    let line = json!({"productId": 1, "quantity": 1, "unitPrice": 1});
    json!({"orderId": 1, "lines": vec![line; count]}).to_string()
}

/// Under the key that the payload names, or some other where it names none.
fn decode_keyed(name: TypeName, text: &str) -> Result<(), DecodeError> {
    let value: Value = text.parse().expect("JSON");
    let field = if name.aggregate_type() == "order" { "orderId" } else { "productId" };
    let key = value.get(field).map_or("1".to_owned(), Value::to_string);
    match decode(name.as_str(), Some(key.as_bytes()), Some(text.as_bytes())) {
        // The payload was accepted.
        Ok(_) | Err(DecodeError::KeyMismatch { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[test]
fn both_accept_and_both_refuse() {
    let schemas = Schemas::new();
    for (rows, by_decoder, by_schema) in
        [(good(), true, true), (bad(), false, false), (refused_by_the_decoder_alone(), false, true)]
    {
        for (name, text) in rows {
            let decoded = decode_keyed(name, &text);
            assert_eq!(decoded.is_ok(), by_decoder, "{}: {decoded:?}: {text}", name.as_str());
            let value = text.parse().unwrap();
            assert_eq!(schemas.accept(name, &value), by_schema, "schema of {}: {text}", name.as_str());
        }
    }
}

/// A value as a field may have it or should not.
fn value() -> impl Strategy<Value = Value> {
    let edges = [
        i64::MIN,
        -1,
        0,
        1,
        1,
        2,
        QUANTITY_MAX,
        QUANTITY_MAX + 1,
        UNIT_PRICE_MAX,
        UNIT_PRICE_MAX + 1,
        i64::MAX,
    ];
    let odd =
        [json!(null), json!(1.5), json!(u64::MAX), json!("1"), json!(true), json!([1]), json!({"a": 1})];
    prop_oneof![
        12 => (1_i64..10).prop_map(Value::from),
        4 => select(edges.to_vec()).prop_map(Value::from),
        1 => select(odd.to_vec()),
    ]
}

/// An object with most of these fields.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let field = |(name, value): (&'static str, BoxedStrategy<Value>)| prop_oneof![15 => value.prop_map(move |value| Some((name.to_owned(), value))), 1 => Just(None)];
    let fields: Vec<_> = fields.into_iter().map(field).collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

fn any_payload() -> impl Strategy<Value = Value> {
    let plain = |names: &[&'static str]| names.iter().map(|name| (*name, value().boxed())).collect();
    let line = object(plain(&["productId", "quantity", "unitPrice"]));
    let lines = prop_oneof![20 => prop::collection::vec(line, 0..4).prop_map(Value::from), 1 => value()];
    let ids = ["productId", "userId", "later"];
    prop_oneof![
        object(plain(&ids)),
        object(plain(&["productId", "quantity", "version"])),
        object([plain(&["orderId", "userId"]), vec![("lines", lines.boxed())]].concat()),
    ]
}

#[test]
fn whatever_is_put_together_both_decide_alike() {
    let schemas = Schemas::new();
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let config = Config { failure_persistence: None, ..Config::with_cases(4_000) };
    TestRunner::new(config)
        .run(&(select(TypeName::ALL.to_vec()), any_payload()), |(name, value)| {
            let decoded = decode_keyed(name, &value.to_string());
            let is_amount = matches!(decoded, Err(DecodeError::OutOfBounds { field: "order amount", .. }));
            let by_decoder = decoded.is_ok() || is_amount;
            prop_assert_eq!(schemas.accept(name, &value), by_decoder, "{:?}", decoded);
            let counter = if by_decoder { &accepted } else { &refused };
            counter.set(counter.get() + 1);
            Ok(())
        })
        .unwrap();
    assert!(accepted.get() > 200 && refused.get() > 200, "{accepted:?} accepted, {refused:?} refused");
}
