//! The contract: every byte of every type, and what a reader refuses.

use commerce_events::{
    CatalogEvent, DecodeError, Event, OrderEvent, OrderLineV1, OrderV1, ProductLikeV1, ProductViewV1,
    StockEvent, StockV1, TypeName, ViewEvent, decode,
};

/// One event of each type, in the order of `TypeName::ALL`.
fn samples() -> Vec<Event> {
    let like = ProductLikeV1 { product_id: 42, user_id: 7 };
    let order = OrderV1 {
        order_id: 9_001,
        user_id: Some(7),
        lines: vec![
            OrderLineV1 { product_id: 42, quantity: 2, unit_price: 12_900 },
            OrderLineV1 { product_id: 43, quantity: 1, unit_price: 0 },
        ],
    };
    vec![
        Event::Catalog(CatalogEvent::Liked(like.clone())),
        Event::Catalog(CatalogEvent::Unliked(like)),
        Event::Order(OrderEvent::Completed(order.clone())),
        Event::Order(OrderEvent::Cancelled(OrderV1 { user_id: None, ..order })),
        Event::Stock(StockEvent::Depleted(StockV1 { product_id: 42, quantity: 0, version: 17 })),
        Event::Stock(StockEvent::Replenished(StockV1 { product_id: 42, quantity: 5, version: 18 })),
        Event::View(ViewEvent::Viewed(ProductViewV1 { product_id: 42, user_id: Some(7) })),
    ]
}

#[test]
fn every_type_has_a_golden_file_and_reads_it_back() {
    for (event, name) in samples().into_iter().zip(TypeName::ALL) {
        assert_eq!(event.type_name(), name);
        let path = format!("{}/golden/{}.json", env!("CARGO_MANIFEST_DIR"), name.as_str());
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let json = event.to_json().unwrap();
        assert_eq!(String::from_utf8(json.clone()).unwrap(), String::from_utf8(golden).unwrap().trim_end());
        let key = event.aggregate_id().to_string();
        assert_eq!(decode(name.as_str(), Some(key.as_bytes()), Some(&json)).unwrap(), event);
    }
}

#[test]
fn fields_that_a_later_version_adds_are_ignored() {
    let json = br#"{"productId":42,"userId":7,"campaign":{"id":1}}"#;
    assert!(decode("ProductLiked", Some(b"42"), Some(json)).is_ok());
}

#[test]
fn what_can_never_be_an_event_is_refused_with_its_reason() {
    let liked = |json: &str| decode("ProductLiked", Some(b"42"), Some(json.as_bytes())).unwrap_err();
    assert!(matches!(liked(""), DecodeError::Empty));
    assert!(matches!(liked("{"), DecodeError::Malformed { .. }));
    assert!(matches!(liked(r#"{"productId":"42","userId":7}"#), DecodeError::Malformed { .. }));
    assert!(matches!(liked(r#"{"userId":7}"#), DecodeError::Malformed { .. }));
    assert!(matches!(
        liked(r#"{"productId":0,"userId":7}"#),
        DecodeError::OutOfBounds { field: "productId", .. }
    ));
    assert!(matches!(liked(r#"{"productId":43,"userId":7}"#), DecodeError::KeyMismatch { expected: 43 }));
    assert!(matches!(liked(&"[".repeat(10_000)), DecodeError::Malformed { .. }));
    let versioned = decode("ProductLiked.v2", Some(b"42"), Some(b"{}")).unwrap_err();
    assert!(matches!(versioned, DecodeError::UnknownVersion { .. }));
    let unknown = decode("ProductRenamed", Some(b"42"), Some(b"{}")).unwrap_err();
    assert!(matches!(unknown, DecodeError::UnknownType(_)));
}

#[test]
fn the_bounds_of_an_order_are_reached_and_not_passed() {
    let order = |lines: Vec<OrderLineV1>| {
        let event = Event::Order(OrderEvent::Completed(OrderV1 { order_id: 1, user_id: None, lines }));
        decode("OrderCompleted", Some(b"1"), Some(&event.to_json().unwrap()))
    };
    let line = |quantity, unit_price| OrderLineV1 { product_id: 1, quantity, unit_price };
    assert!(order(vec![line(1, 0); commerce_events::LINES_MAX]).is_ok());
    assert!(order(vec![line(1, 0); commerce_events::LINES_MAX + 1]).is_err());
    assert!(order(vec![]).is_err());
    assert!(order(vec![line(commerce_events::QUANTITY_MAX, 1)]).is_ok());
    assert!(order(vec![line(commerce_events::QUANTITY_MAX + 1, 1)]).is_err());
    assert!(order(vec![line(0, 1)]).is_err());
    assert!(order(vec![line(-1, 1)]).is_err());
    assert!(order(vec![line(1, commerce_events::UNIT_PRICE_MAX)]).is_ok());
    assert!(order(vec![line(1, commerce_events::UNIT_PRICE_MAX + 1)]).is_err());
    let most = line(commerce_events::QUANTITY_MAX, commerce_events::UNIT_PRICE_MAX);
    assert!(order(vec![most.clone()]).is_ok());
    assert!(order(vec![most.clone(), most]).is_err());
}

#[test]
fn a_state_says_what_its_name_says() {
    let stock = |name: &str, quantity: i64| {
        let json = format!(r#"{{"productId":1,"quantity":{quantity},"version":1}}"#);
        decode(name, Some(b"1"), Some(json.as_bytes()))
    };
    assert!(stock("StockDepleted", 0).is_ok());
    assert!(stock("StockDepleted", 1).is_err());
    assert!(stock("StockReplenished", 1).is_ok());
    assert!(stock("StockReplenished", 0).is_err());
}
