//! Record headers as JSON: `[{"name": …, "utf8": …}, {"name": …, "base64": …}, {"name": …}]`, in order.
//!
//! A value is text if it is UTF-8 without NUL (PostgreSQL's jsonb has none), else base64, and absent if it is null.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

pub(crate) fn encode<'a>(headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Value {
    headers.map(|(name, value)| encode_header(name, value)).collect()
}

fn encode_header(name: &str, value: Option<&[u8]>) -> Value {
    let mut header = Map::new();
    header.insert("name".to_owned(), clean(name).into());
    if let Some(bytes) = value {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => header.insert("utf8".to_owned(), text.into()),
            _ => header.insert("base64".to_owned(), STANDARD.encode(bytes).into()),
        };
    }
    Value::Object(header)
}

/// The headers that [`encode`] wrote; what it did not write is left out.
pub(crate) fn decode(headers: &Value) -> Vec<(String, Option<Vec<u8>>)> {
    headers.as_array().into_iter().flatten().filter_map(decode_header).collect()
}

fn decode_header(header: &Value) -> Option<(String, Option<Vec<u8>>)> {
    let name = header.get("name")?.as_str()?.to_owned();
    let value = match (header.get("utf8"), header.get("base64")) {
        (Some(text), _) => Some(text.as_str()?.as_bytes().to_vec()),
        (None, Some(encoded)) => Some(STANDARD.decode(encoded.as_str()?).ok()?),
        (None, None) => None,
    };
    Some((name, value))
}

/// Text that PostgreSQL takes: it has no NUL.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Bytes as text that PostgreSQL takes, for people.
pub(crate) fn clean_bytes(bytes: &[u8]) -> String {
    clean(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(
            headers in prop::collection::vec(
                ("[^\0]{0,12}", prop::option::of(prop::collection::vec(any::<u8>(), 0..30))), 0..6
            )
        ) {
            let encoded = encode(headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
            prop_assert!(!encoded.to_string().contains("\\u0000"));
            prop_assert_eq!(decode(&encoded), headers);
        }
    }

    #[test]
    fn text_stays_readable_and_the_rest_is_base64() {
        let headers =
            [("a", Some(&b"text"[..])), ("b", Some(&b"nul\0"[..])), ("c", Some(&[0xff][..])), ("d", None)];
        assert_eq!(
            encode(headers.into_iter()).to_string(),
            r#"[{"name":"a","utf8":"text"},{"base64":"bnVsAA==","name":"b"},{"base64":"/w==","name":"c"},{"name":"d"}]"#
        );
    }
}
