//! The files for machines are what the code says, are sound, and keep what was promised.
//!
//! `SCHEMA_WRITE=1 cargo test -p commerce-events schema` writes them anew. `SCHEMA_PUBLISH=1` with the same command, before a
//! release, promises what they say, if it keeps what was promised before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use commerce_events::TypeName;
use commerce_events::schema::{Contract, asyncapi, breaks, contract, payload};
use serde_json::Value;

use crate::{file, read};

const DOCUMENT: &str = "asyncapi.json";
const SCHEMAS: &str = "schemas";
const PUBLISHED: &str = "schemas/published";
/// Topics with their types, beside the published schemas.
const TOPICS: &str = "topics";

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// The JSON files of a directory, by name without extension.
fn files_of(directory: &str) -> BTreeMap<String, Value> {
    let json = |path: &Path| path.extension().is_some_and(|extension| extension == "json");
    let paths = std::fs::read_dir(file(directory)).expect("a directory of this crate");
    let paths = paths.map(|entry| entry.expect("an entry of the directory").path());
    let names =
        paths.filter(|path| json(path)).filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    names
        .map(|name| {
            let text = read(&format!("{directory}/{name}.json"));
            (name, text.parse().expect("JSON"))
        })
        .collect()
}

fn write(directory: &str, name: &str, value: &Value) {
    std::fs::write(file(directory).join(format!("{name}.json")), pretty(value))
        .expect("a writable directory");
}

#[test]
fn the_files_are_what_the_types_say() {
    let current = contract();
    if is_set("SCHEMA_WRITE") {
        for name in files_of(SCHEMAS).keys().filter(|name| !current.schemas.contains_key(*name)) {
            std::fs::remove_file(file(SCHEMAS).join(format!("{name}.json"))).unwrap();
        }
        current.schemas.iter().for_each(|(name, schema)| write(SCHEMAS, name, schema));
        std::fs::write(file(DOCUMENT), pretty(&asyncapi())).unwrap();
    }
    let how = "`SCHEMA_WRITE=1 cargo test -p commerce-events schema` writes it";
    assert!(
        files_of(SCHEMAS).keys().eq(current.schemas.keys()),
        "schemas/ has other files than types; {how}"
    );
    for (name, schema) in &current.schemas {
        assert!(
            read(&format!("{SCHEMAS}/{name}.json")) == pretty(schema),
            "schemas/{name}.json differs; {how}"
        );
    }
    assert!(read(DOCUMENT) == pretty(&asyncapi()), "{DOCUMENT} differs; {how}");
}

#[test]
fn what_was_published_still_holds() {
    let mut schemas = files_of(PUBLISHED);
    let topics: BTreeMap<String, BTreeSet<String>> =
        serde_json::from_value(schemas.remove(TOPICS).unwrap()).unwrap();
    for name in topics.values().flatten() {
        assert!(schemas.contains_key(name), "{name} was published, and its schema is not kept");
    }
    let current = contract();
    let broken = breaks(&Contract { topics, schemas }, &current);
    assert!(broken.is_empty(), "this needs a new version of the type (docs/events.md): {broken:#?}");
    if is_set("SCHEMA_PUBLISH") {
        current.schemas.iter().for_each(|(name, schema)| write(PUBLISHED, name, schema));
        write(PUBLISHED, TOPICS, &serde_json::to_value(&current.topics).unwrap());
    }
}

#[test]
fn every_schema_is_one_of_its_draft_and_takes_the_golden_event() {
    for (name, schema) in contract().schemas {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in TypeName::ALL {
        let golden = read(&format!("golden/{}.json", name.as_str())).parse().unwrap();
        let validator = jsonschema::validator_for(&payload(name)).unwrap();
        validator.validate(&golden).unwrap_or_else(|error| panic!("{}: {error}", name.as_str()));
    }
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_of_the_schema_document_leads_somewhere() {
    let (document, schemas) = (asyncapi(), contract().schemas);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let leads = |reference: &str| match reference.strip_prefix('#') {
        Some(pointer) => document.pointer(pointer).is_some(),
        None => reference
            .strip_prefix("./schemas/")
            .and_then(|name| name.strip_suffix(".json"))
            .is_some_and(|name| schemas.contains_key(name)),
    };
    for name in schemas.keys() {
        assert!(found.contains(format!("./schemas/{name}.json").as_str()), "nothing refers to {name}");
    }
    for reference in found {
        assert!(leads(reference), "{reference}");
    }
    for (topic, channel) in document["channels"].as_object().unwrap() {
        assert_ne!(channel["description"], "", "{topic} is not described");
    }
}

/// Names of the fields of a schema, those of items behind `[]`.
fn fields(prefix: &str, schema: &Value, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(format!("{prefix}{name}"));
        fields(&format!("{prefix}{name}[]."), &field["items"], found);
    }
}

#[test]
fn the_page_for_people_has_all_that_the_schemas_have() {
    let page = read("../../docs/events.md");
    let has_row = |text: &str, name: &str| {
        let cells =
            text.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
        cells.flat_map(|cell| cell.split(',')).any(|cell| cell.trim() == format!("`{name}`"))
    };
    let contract = contract();
    for (topic, types) in &contract.topics {
        assert!(has_row(&page, topic), "docs/events.md has no row for topic {topic}");
        for name in types {
            let section = page.split("\n### ").find(|part| part.lines().next().unwrap().contains(name));
            let section = section.unwrap_or_else(|| panic!("docs/events.md has no section for {name}"));
            let mut names = BTreeSet::new();
            fields("", &contract.schemas[name], &mut names);
            for field in names {
                assert!(has_row(section, &field), "docs/events.md has no row for {field} of {name}");
            }
        }
    }
    for name in ["headers", "dead-letter-headers"] {
        let mut names = BTreeSet::new();
        fields("", &contract.schemas[name], &mut names);
        for header in names {
            assert!(has_row(&page, &header), "docs/events.md has no row for header {header}");
        }
    }
}
