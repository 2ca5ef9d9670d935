//! What may change in a published contract, change by change.

use std::collections::{BTreeMap, BTreeSet};

use commerce_events::schema::{Contract, breaks, contract};
use serde_json::{Value, json};

type Change = fn(&mut Contract);

/// A place in a contract's schemas: the name of the schema, and a pointer into it.
fn at<'c>(contract: &'c mut Contract, schema: &str, pointer: &str) -> &'c mut Value {
    contract.schemas.get_mut(schema).and_then(|schema| schema.pointer_mut(pointer)).expect("a place")
}

fn order<'c>(contract: &'c mut Contract, pointer: &str) -> &'c mut Value {
    at(contract, "OrderCompleted", pointer)
}

fn remove(object: &mut Value, name: &str) -> Value {
    object.as_object_mut().and_then(|object| object.remove(name)).expect("what is to be removed")
}

fn push(list: &mut Value, name: &str) {
    list.as_array_mut().expect("a list").push(name.into());
}

const LINE: &str = "/properties/lines/items/properties";

fn broken_by(change: Change) -> Vec<String> {
    let published = contract();
    let mut current = published.clone();
    change(&mut current);
    assert_ne!(published, current, "the change changes nothing");
    breaks(&published, &current)
}

#[test]
fn only_more_is_allowed() {
    let allowed: [(&str, Change); 7] = [
        ("an optional field", |now| order(now, "/properties")["coupon"] = json!({"type": "string"})),
        ("an optional field of a line", |now| order(now, LINE)["discount"] = json!({"type": "integer"})),
        ("an optional header", |now| at(now, "headers", "/properties")["tenant"] = json!({"type": "string"})),
        ("other words", |now| order(now, "/properties/userId")["description"] = "Who.".into()),
        ("an event type", |now| {
            now.topics.get_mut("order-events").unwrap().insert("OrderShipped".to_owned());
            now.schemas.insert("OrderShipped".to_owned(), json!({"type": "object"}));
        }),
        ("a new version beside the old", |now| {
            now.topics.get_mut("order-events").unwrap().insert("OrderCompleted.v2".to_owned());
            now.schemas.insert("OrderCompleted.v2".to_owned(), json!({"type": "object"}));
        }),
        ("a topic", |now| {
            now.topics.insert("coupon-events".to_owned(), BTreeSet::new());
        }),
    ];
    for (what, change) in allowed {
        assert_eq!(broken_by(change), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn each_change_of_what_was_published_is_refused_by_name() {
    let refused: [(&str, Change); 21] = [
        ("OrderCompleted.userId was removed or renamed", |now| {
            remove(order(now, "/properties"), "userId");
        }),
        ("OrderCompleted.userId was removed or renamed", |now| {
            let field = remove(order(now, "/properties"), "userId");
            order(now, "/properties")["buyerId"] = field;
        }),
        ("OrderCompleted.lines[].quantity was removed or renamed", |now| {
            remove(order(now, LINE), "quantity");
        }),
        ("OrderCompleted.orderId: type was \"integer\", is \"string\"", |now| {
            order(now, "/properties/orderId")["type"] = "string".into();
        }),
        ("OrderCompleted.userId: type was [\"integer\",\"null\"], is \"integer\"", |now| {
            order(now, "/properties/userId")["type"] = "integer".into();
        }),
        ("OrderCompleted: type was \"object\", is absent", |now| {
            remove(order(now, ""), "type");
        }),
        ("OrderCompleted.userId is newly required", |now| push(order(now, "/required"), "userId")),
        ("OrderCompleted.coupon is newly required", |now| {
            order(now, "/properties")["coupon"] = json!({"type": "string"});
            push(order(now, "/required"), "coupon");
        }),
        ("OrderCompleted.lines is no longer required", |now| {
            *order(now, "/required") = json!(["orderId"]);
        }),
        ("OrderCompleted.orderId is no longer required", |now| {
            remove(order(now, ""), "required");
        }),
        ("OrderCompleted.lines[].quantity: maximum was 1000000, is 999", |now| {
            order(now, LINE)["quantity"]["maximum"] = 999.into();
        }),
        ("OrderCompleted.lines[].quantity: maximum was 1000000, is 1000001", |now| {
            order(now, LINE)["quantity"]["maximum"] = 1_000_001.into();
        }),
        ("OrderCompleted.lines: maxItems was 2000, is absent", |now| {
            remove(order(now, "/properties/lines"), "maxItems");
        }),
        ("OrderCompleted.lines: uniqueItems was absent, is true", |now| {
            order(now, "/properties/lines")["uniqueItems"] = true.into();
        }),
        ("OrderCompleted: additionalProperties was absent, is false", |now| {
            order(now, "")["additionalProperties"] = false.into();
        }),
        ("OrderCompleted.orderId was {", |now| *order(now, "/properties/orderId") = true.into()),
        ("OrderCompleted was removed", |now| {
            now.schemas.remove("OrderCompleted");
        }),
        ("topic order-events no longer carries OrderCancelled", |now| {
            now.topics.get_mut("order-events").unwrap().remove("OrderCancelled");
        }),
        ("topic order-events no longer carries OrderCancelled", |now| {
            now.topics.get_mut("order-events").unwrap().remove("OrderCancelled");
            now.topics.get_mut("view-events").unwrap().insert("OrderCancelled".to_owned());
        }),
        ("topic view-events was removed", |now| {
            now.topics.remove("view-events");
        }),
        ("headers.ce_id was removed or renamed", |now| {
            remove(at(now, "headers", "/properties"), "ce_id");
        }),
    ];
    for (expected, change) in refused {
        let found = broken_by(change);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn one_change_is_one_line() {
    let found = broken_by(|now| order(now, LINE)["quantity"]["minimum"] = 2.into());
    assert_eq!(found, ["OrderCompleted.lines[].quantity: minimum was 1, is 2"]);
    let nothing = Contract { topics: BTreeMap::new(), schemas: BTreeMap::new() };
    assert_eq!(breaks(&nothing, &contract()), Vec::<String>::new());
}
