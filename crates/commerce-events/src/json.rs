//! What JSON must be beyond what serde asks of it: of a payload, and of a request that becomes one.
//!
//! serde's derive takes an array for a struct, field by field, and skips an unknown field without looking at its text or its
//! depth. Other readers of a topic do not, so what passes here and not there is refused here.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};

use crate::limits::NESTING_MAX;

/// Reads a struct from a JSON object in UTF-8.
pub(crate) fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, serde_json::Error> {
    let text = std::str::from_utf8(payload).map_err(serde_json::Error::custom)?;
    if is_deeper(payload, NESTING_MAX) {
        return Err(serde_json::Error::custom(format_args!("nested deeper than {NESTING_MAX} levels")));
    }
    serde_json::from_str::<Object<T>>(text).map(|object| object.0)
}

/// For `#[serde(deserialize_with)]`: a list whose items are JSON objects.
///
/// # Errors
/// Those of the items, and an item that is no object.
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// A struct that is read from an object and from nothing else.
#[derive(Debug)]
pub struct Object<T>(
    /// What was read.
    pub T,
);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Whether objects and arrays stand in each other for more than `levels`; anything for bytes that are not JSON.
fn is_deeper(json: &[u8], levels: usize) -> bool {
    // Nearly every payload has fewer brackets at all, and counting them is far cheaper than following them.
    if json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= levels {
        return false;
    }
    let mut depth = 0_usize;
    let mut is_in_text = false;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => is_in_text = !is_in_text,
            b'{' | b'[' if !is_in_text => depth += 1,
            b'}' | b']' if !is_in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > levels {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_deeper;

    #[test]
    fn depth_is_what_stands_in_each_other_and_not_what_stands_side_by_side_or_in_text() {
        for (json, depth) in [
            ("1", 0),
            ("{}", 1),
            ("[[],[],[]]", 2),
            (r#"{"a":[{"b":1},{"b":[]}]}"#, 4),
            (r#"{"[[[[":"{{{{\"[[[[\\"}"#, 1),
            (r#"["\\",["]]"],[]]"#, 2),
        ] {
            assert!(!is_deeper(json.as_bytes(), depth), "{json}");
            assert!(depth == 0 || is_deeper(json.as_bytes(), depth - 1), "{json}");
        }
    }
}
