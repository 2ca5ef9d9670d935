//! Whatever bytes come, the decoder answers; and what it accepts it can be told again.

use std::cell::Cell;

use commerce_events::{
    CatalogEvent, Event, LINES_MAX, ORDER_AMOUNT_MAX, OrderEvent, OrderLineV1, OrderV1, ProductLikeV1,
    ProductViewV1, QUANTITY_MAX, StockEvent, StockV1, TypeName, UNIT_PRICE_MAX, ViewEvent, decode,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use serde_json::Value;

use crate::agreement::Schemas;
use crate::{read, samples};

/// Decoding what the event is written as gives the event.
fn comes_back(event: &Event) -> TestCaseResult {
    let json = event.to_json().expect("an event is JSON");
    let key = event.aggregate_id().to_string();
    let again = decode(event.type_name().as_str(), Some(key.as_bytes()), Some(&json));
    prop_assert_eq!(again.as_ref().ok(), Some(event), "{:?}", again.as_ref().err());
    Ok(())
}

fn order() -> impl Strategy<Value = OrderV1> {
    let amount = ORDER_AMOUNT_MAX / i64::try_from(LINES_MAX).expect("a small number");
    let line = (1..=i64::MAX, 1..=QUANTITY_MAX).prop_flat_map(move |(product_id, quantity)| {
        (0..=UNIT_PRICE_MAX.min(amount / quantity)).prop_map(move |unit_price| OrderLineV1 {
            product_id,
            quantity,
            unit_price,
        })
    });
    (1..=i64::MAX, any::<Option<i64>>(), prop::collection::vec(line, 1..20))
        .prop_map(|(order_id, user_id, lines)| OrderV1 { order_id, user_id, lines })
}

fn event() -> impl Strategy<Value = Event> {
    let like =
        (1..=i64::MAX, any::<i64>()).prop_map(|(product_id, user_id)| ProductLikeV1 { product_id, user_id });
    let view = (1..=i64::MAX, any::<Option<i64>>())
        .prop_map(|(product_id, user_id)| ProductViewV1 { product_id, user_id });
    let stock = (1..=i64::MAX, 1..=i64::MAX, 1..=i64::MAX)
        .prop_map(|(product_id, quantity, version)| StockV1 { product_id, quantity, version });
    prop_oneof![
        like.clone().prop_map(|like| Event::Catalog(CatalogEvent::Liked(like))),
        like.prop_map(|like| Event::Catalog(CatalogEvent::Unliked(like))),
        order().prop_map(|order| Event::Order(OrderEvent::Completed(order))),
        order().prop_map(|order| Event::Order(OrderEvent::Cancelled(order))),
        stock.clone().prop_map(|stock| Event::Stock(StockEvent::Depleted(StockV1 { quantity: 0, ..stock }))),
        stock.prop_map(|stock| Event::Stock(StockEvent::Replenished(stock))),
        view.prop_map(|view| Event::View(ViewEvent::Viewed(view))),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_to_the_same(event in event()) {
        comes_back(&event)?;
    }

    #[test]
    fn any_bytes_are_answered(
        type_name in prop_oneof![
            9 => select(TypeName::ALL.to_vec()).prop_map(|name| name.as_str().to_owned()),
            1 => ".{0,20}",
        ],
        key in any::<Option<Vec<u8>>>(),
        payload in any::<Option<Vec<u8>>>(),
    ) {
        if let Ok(event) = decode(&type_name, key.as_deref(), payload.as_deref()) {
            comes_back(&event)?;
        }
    }
}

/// What stands for a token of a golden event after a mutation.
const TOKENS: [&str; 24] = [
    "",
    " ",
    "0",
    "1",
    "-1",
    "-0",
    "1e3",
    "1.0",
    "1E999",
    "9223372036854775807",
    "9223372036854775808",
    "NaN",
    "null",
    "true",
    "\"",
    "\"\\ud800\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "[[[[[[[[",
    "{\"productId\":",
];

/// Changes some bytes, cuts, doubles or replaces a piece.
#[derive(Debug, Clone)]
enum Mutation {
    Byte(u8),
    Token(&'static str),
    Cut(usize),
    Double(usize),
}

fn mutation() -> impl Strategy<Value = (prop::sample::Index, Mutation)> {
    let kind = prop_oneof![
        any::<u8>().prop_map(Mutation::Byte),
        select(b"0123456789 \t".to_vec()).prop_map(Mutation::Byte),
        select(TOKENS.to_vec()).prop_map(Mutation::Token),
        (1_usize..40).prop_map(Mutation::Cut),
        (1_usize..40).prop_map(Mutation::Double),
    ];
    (any::<prop::sample::Index>(), kind)
}

fn mutate(bytes: &mut Vec<u8>, place: prop::sample::Index, mutation: &Mutation) {
    let at = place.index(bytes.len() + 1);
    let piece = |length: &usize| at..bytes.len().min(at + length);
    match mutation {
        Mutation::Byte(byte) => match bytes.get_mut(at) {
            Some(place) => *place = *byte,
            None => bytes.push(*byte),
        },
        Mutation::Token(token) => {
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            bytes.splice(at..at + digits, token.bytes());
        }
        Mutation::Cut(length) => {
            bytes.drain(piece(length));
        }
        Mutation::Double(length) => {
            let doubled = bytes[piece(length)].to_vec();
            bytes.splice(at..at, doubled);
        }
    }
}

#[test]
fn a_golden_event_that_was_tampered_with_is_refused_or_is_a_sound_event() {
    let schemas = Schemas::new();
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mutations = prop::collection::vec(mutation(), 1..4);
    let config = Config { failure_persistence: None, ..Config::with_cases(8_000) };
    TestRunner::new(config)
        .run(&(select(samples()), mutations), |(golden, mutations)| {
            let name = golden.type_name();
            let mut bytes = read(&format!("golden/{}.json", name.as_str())).into_bytes();
            for (place, mutation) in &mutations {
                mutate(&mut bytes, *place, mutation);
            }
            let key = golden.aggregate_id().to_string();
            let Ok(event) = decode(name.as_str(), Some(key.as_bytes()), Some(&bytes)) else {
                refused.set(refused.get() + 1);
                return Ok(());
            };
            accepted.set(accepted.get() + 1);
            // A number that nothing can hold may stand in a field that the decoder does not read.
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                prop_assert!(schemas.accept(name, &value), "{}", value);
            }
            comes_back(&event)
        })
        .unwrap();
    assert!(accepted.get() > 100 && refused.get() > 1_000, "{accepted:?} accepted, {refused:?} refused");
}
