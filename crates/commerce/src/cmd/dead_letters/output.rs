//! How answers leave the process, and letters as JSON.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use inbox::dead_letter::{AuditEntry, Letter, LetterGroup, WholeLetter};
use serde_json::{Value, json};

use super::text::{bytes_json, json_text, unmasked};

/// Where JSON goes.
#[derive(Debug, clap::Args)]
pub(super) struct JsonArguments {
    /// Write the answer as JSON to standard output, or by --json=FILE to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    json: Option<PathBuf>,
}

impl JsonArguments {
    /// Prints `text` for people, or the value where it was asked for.
    pub(super) fn publish(&self, text: &str, value: &Value) -> anyhow::Result<()> {
        let Some(path) = self.json.as_deref() else { return write_out(text) };
        let json = json_text(&serde_json::to_string_pretty(value)?) + "\n";
        if path == Path::new("-") {
            return write_out(&json);
        }
        write_out(text)?;
        std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))
    }
}

pub(super) fn write_out(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("writing to standard output")
}

pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub(super) fn letter_json(letter: &Letter) -> Value {
    json!({
        "id": letter.id.to_string(),
        "group": letter.place.consumer_group,
        "topic": letter.place.topic,
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "key": bytes_json(letter.key.as_deref()),
        "valueBytes": letter.value_bytes,
        "lacks": letter.lacks,
        "eventId": letter.event_id,
        "eventType": letter.event_type,
        "reason": letter.reason,
        "fingerprint": letter.fingerprint,
        "error": letter.error,
        "attempts": letter.attempts,
        "firstSeen": time(letter.first_seen),
        "lastSeen": time(letter.last_seen),
        "status": letter.status.as_str(),
        "redriveCount": letter.redrive_count,
        "firstId": letter.first_id.map(|id| id.to_string()),
    })
}

pub(super) fn whole_json(whole: &WholeLetter) -> Value {
    let content = &whole.content;
    let mut value = letter_json(&whole.letter);
    let headers: Vec<Value> = content
        .headers()
        .iter()
        .map(|(name, value)| json!({"name": name, "value": bytes_json(unmasked(name, value.as_deref()))}))
        .collect();
    value["value"] = bytes_json(content.value.as_deref());
    value["headers"] = headers.into();
    value["recordTimestamp"] = content.record_timestamp.into();
    value["recordTimestampType"] = content.record_timestamp_type.clone().into();
    value["traceparent"] = content.traceparent.clone().into();
    value
}

pub(super) fn group_json(group: &LetterGroup) -> Value {
    json!({
        "fingerprint": group.fingerprint,
        "letters": group.letters,
        "open": group.open,
        "eventType": group.event_type,
        "reason": group.reason,
        "consumerGroups": group.consumer_groups,
        "topics": group.topics,
        "firstSeen": time(group.first_seen),
        "lastSeen": time(group.last_seen),
        "sampleId": group.sample_id.to_string(),
        "sampleError": group.sample_error,
    })
}

pub(super) fn audit_json(entry: &AuditEntry) -> Value {
    json!({
        "operationId": entry.operation_id.to_string(),
        "at": time(entry.acted_at),
        "by": entry.actor,
        "action": entry.action,
        "reason": entry.reason,
        "statusBefore": entry.status_before,
        "redriveCount": entry.redrive_count,
    })
}
