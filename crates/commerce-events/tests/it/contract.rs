//! Every byte of every type, and what a reader refuses.

use std::error::Error as _;

use commerce_events::{DecodeError, Event, NESTING_MAX, OrderEvent, OrderLineV1, OrderV1, TypeName, decode};

use crate::{read, samples};

#[test]
fn every_type_has_a_golden_file_and_reads_it_back() {
    for (event, name) in samples().into_iter().zip(TypeName::ALL) {
        assert_eq!(event.type_name(), name);
        let golden = read(&format!("golden/{}.json", name.as_str()));
        let json = event.to_json().unwrap();
        assert_eq!(String::from_utf8(json.clone()).unwrap(), golden.trim_end());
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

#[test]
fn a_key_names_its_aggregate_in_one_way_only() {
    let json = br#"{"productId":42,"userId":7}"#;
    let decode = |key: &[u8]| decode("ProductLiked", Some(key), Some(json));
    assert!(decode(b"42").is_ok());
    for key in [
        &b"+42"[..],
        b"042",
        b" 42",
        b"42 ",
        b"42.0",
        b"0x2a",
        b"\xd9\xa4\xd9\xa2",
        b"",
        b"\xff",
        b"99999999999999999999",
    ] {
        let refused = decode(key).unwrap_err();
        assert!(matches!(refused, DecodeError::KeyMismatch { expected: 42 }), "{key:?}: {refused}");
    }
}

/// What the payload of a `ProductLiked` is refused for.
fn malformed(json: &[u8]) -> String {
    let refused = decode("ProductLiked", Some(b"42"), Some(json));
    assert!(matches!(refused, Err(DecodeError::Malformed { .. })), "{}: {refused:?}", json.escape_ascii());
    let source = refused.err().and_then(|error| error.source().map(ToString::to_string));
    source.expect("serde's words")
}

#[test]
fn an_array_is_no_object_wherever_it_stands() {
    assert!(malformed(b"[42,7]").contains("expected an object"));
    let order = |lines: &str| {
        let json =
            format!(r#"{{"orderId":1,"lines":[{{"productId":1,"quantity":1,"unitPrice":1}},{lines}]}}"#);
        decode("OrderCompleted", Some(b"1"), Some(json.as_bytes()))
    };
    assert!(order(r#"{"productId":2,"quantity":1,"unitPrice":1}"#).is_ok());
    assert!(matches!(order("[2,1,1]"), Err(DecodeError::Malformed { .. })));
    assert!(matches!(
        decode("OrderCompleted", Some(b"1"), Some(b"[1,null,[[1,1,1]]]")),
        Err(DecodeError::Malformed { .. })
    ));
}

#[test]
fn a_field_stands_once_however_its_name_is_spelt() {
    assert!(malformed(br#"{"productId":42,"userId":7,"productId":42}"#).contains("duplicate field"));
    assert!(malformed(br#"{"productId":42,"product\u0049d":43,"userId":7}"#).contains("duplicate field"));
    let line = r#"{"productId":1,"quantity":1,"quantity":2,"unitPrice":1}"#;
    let order = format!(r#"{{"orderId":1,"lines":[{line}]}}"#);
    assert!(decode("OrderCompleted", Some(b"1"), Some(order.as_bytes())).is_err());
}

#[test]
fn a_number_is_an_integer_that_fits() {
    for number in [
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "null",
        "true",
        "1e999",
        "-1e999",
        "1e400000000000",
        "42.0",
        "4.2e1",
        "42e0",
        "042",
        "+42",
        "0x2a",
        "\"42\"",
        "9223372036854775808",
        "18446744073709551616",
        "-9223372036854775809",
        "[42]",
        "{}",
    ] {
        malformed(format!(r#"{{"productId":{number},"userId":7}}"#).as_bytes());
    }
    malformed(format!(r#"{{"productId":{},"userId":7}}"#, "9".repeat(100_000)).as_bytes());
    let most = format!(r#"{{"productId":42,"userId":{}}}"#, i64::MAX);
    assert!(decode("ProductLiked", Some(b"42"), Some(most.as_bytes())).is_ok());
}

#[test]
fn nesting_has_a_limit_also_in_fields_that_nobody_reads() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"productId":42,"userId":7,"later":{open}{close}}}"#)
    };
    assert!(decode("ProductLiked", Some(b"42"), Some(nested(NESTING_MAX).as_bytes())).is_ok());
    for levels in [NESTING_MAX + 1, 1_000_000] {
        assert!(malformed(nested(levels).as_bytes()).contains("nested deeper"));
    }
}

#[test]
fn what_is_no_text_or_more_than_one_value_is_refused() {
    for json in [
        &b"\xef\xbb\xbf{\"productId\":42,\"userId\":7}"[..],
        b"{\"productId\":42,\"userId\":7,\"later\":\"\xff\"}",
        b"{\"productId\":42,\"userId\":7,\"later\":\"\xed\xa0\x80\"}",
        b"{\"productId\":42,\"userId\":7}\0",
        b"{\"productId\":42,\"userId\":7}{}",
        b"{\"productId\":42,\"userId\":7,}",
        b"{'productId':42,'userId':7}",
        b"{\"productId\":42,\"userId\":7/**/}",
        b"\0\0\0\0\x01{\"productId\":42,\"userId\":7}",
        b"null",
    ] {
        malformed(json);
    }
}
