//! `commerce_events::decode`: a record's type, key and payload. An input is a type, a key and a payload, a line each but the last.

use commerce_events::decode;

use super::first_line;

pub(super) fn run(input: &[u8]) {
    let (name, rest) = first_line(input);
    let (key, payload) = first_line(rest);
    let Ok(name) = std::str::from_utf8(name) else { return };
    let Ok(event) = decode(name, Some(key), Some(payload)) else { return };
    assert_eq!(event.type_name().as_str(), name);
    assert_eq!(event.aggregate_id().to_string().as_bytes(), key, "the key is the aggregate");
    let written = event.to_json().expect("an event is JSON");
    let again = decode(name, Some(key), Some(&written)).expect("what we write we read");
    assert_eq!(again, event);
    assert_eq!(again.to_json().expect("an event is JSON"), written);
}
