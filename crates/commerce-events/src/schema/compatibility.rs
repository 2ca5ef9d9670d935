//! What may change in a contract that has been published.
//!
//! Readers and writers of different releases meet on a topic, and its log holds what was written long ago. So a published
//! field never changes, in neither direction: with a narrower bound new readers refuse old records, with a wider one old
//! readers refuse new records. All that is allowed is more: optional fields, event types, topics; and other words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What is promised to readers and writers of the topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Event types by topic.
    pub topics: BTreeMap<String, BTreeSet<String>>,
    /// JSON Schemas, without references, by event type or another name.
    pub schemas: BTreeMap<String, Value>,
}

/// Keywords that people read and validators do not.
const WORDS: [&str; 5] = ["$schema", "$comment", "title", "description", "examples"];

/// A line for each promise of `published` that `current` breaks.
#[must_use]
pub fn breaks(published: &Contract, current: &Contract) -> Vec<String> {
    let mut found = Vec::new();
    for (topic, types) in &published.topics {
        let Some(now) = current.topics.get(topic) else {
            found.push(format!("topic {topic} was removed"));
            continue;
        };
        let gone = types.difference(now);
        found.extend(gone.map(|name| format!("topic {topic} no longer carries {name}")));
    }
    for (name, schema) in &published.schemas {
        match current.schemas.get(name) {
            Some(now) => compare(name, schema, now, &mut found),
            None => found.push(format!("{name} was removed")),
        }
    }
    found
}

fn compare(path: &str, published: &Value, current: &Value, found: &mut Vec<String>) {
    let (Value::Object(before), Value::Object(now)) = (published, current) else {
        if published != current {
            found.push(format!("{path} was {published}, is {current}"));
        }
        return;
    };
    let keywords: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for keyword in keywords {
        let (before, now) = (before.get(keyword), now.get(keyword));
        match (keyword.as_str(), before, now) {
            (word, _, _) if WORDS.contains(&word) => {}
            ("properties", Some(before), Some(now)) => compare_fields(path, before, now, found),
            ("items", Some(before), Some(now)) => compare(&format!("{path}[]"), before, now, found),
            ("required", before, now) => compare_required(path, before, now, found),
            (keyword, before, now) if before != now => {
                let show = |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
                found.push(format!("{path}: {keyword} was {}, is {}", show(before), show(now)));
            }
            _ => {}
        }
    }
}

fn compare_fields(path: &str, published: &Value, current: &Value, found: &mut Vec<String>) {
    for (name, schema) in published.as_object().into_iter().flatten() {
        match current.get(name) {
            Some(now) => compare(&format!("{path}.{name}"), schema, now, found),
            None => found.push(format!("{path}.{name} was removed or renamed")),
        }
    }
}

fn compare_required(path: &str, published: Option<&Value>, current: Option<&Value>, found: &mut Vec<String>) {
    let names = |list: Option<&Value>| -> BTreeSet<String> {
        let names = list.and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (before, now) = (names(published), names(current));
    found.extend(now.difference(&before).map(|name| format!("{path}.{name} is newly required")));
    found.extend(before.difference(&now).map(|name| format!("{path}.{name} is no longer required")));
}
