//! `commerce dead-letters show`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use inbox::dead_letter::{self, LetterStory};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::list::line;
use super::output::{JsonArguments, audit_json, letter_json, time, whole_json};
use super::text::{shorten, show_bytes, unmasked};
use crate::cmd::terminal::printable;

/// Characters of a value on the screen; JSON has all of it.
const VALUE_CHARS_MAX: usize = 4_000;
/// Characters of a header or key on the screen.
const HEADER_CHARS_MAX: usize = 300;

/// What `commerce dead-letters show` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The letter
    id: Uuid,
    #[command(flatten)]
    json: JsonArguments,
}

pub(super) async fn run(connection: &mut PgConnection, arguments: Arguments) -> Result<ExitCode> {
    let id = arguments.id;
    let story = dead_letter::find_story(connection, id).await?;
    let story = story.with_context(|| format!("there is no dead letter {id}"))?;
    arguments.json.publish(&describe(&story)?, &story_json(&story))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether its group has handled the event by now.
fn handled(is_handled: Option<bool>) -> &'static str {
    match is_handled {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown: the record does not say which event it is",
    }
}

fn describe(story: &LetterStory) -> Result<String> {
    let (letter, content) = (&story.whole.letter, &story.whole.content);
    let mut text = String::new();
    let mut field = |name: &str, value: String| writeln!(text, "{name:<14} {value}");
    let optional = |value: Option<&str>| value.map_or("-".to_owned(), printable);
    field("id", letter.id.to_string())?;
    field("status", format!("{}, redriven {} times", letter.status, letter.redrive_count))?;
    field("event handled", handled(story.is_handled).to_owned())?;
    if let Some(first) = story.waits_for {
        field("waits for", format!("{first}: deal with it, and this one has its effect in its turn"))?;
    }
    field("group", printable(&letter.place.consumer_group))?;
    let place = &letter.place;
    field("record", format!("{}[{}]@{}", printable(&place.topic), place.partition, place.offset))?;
    field(
        "event",
        format!("{} {}", optional(letter.event_type.as_deref()), optional(letter.event_id.as_deref())),
    )?;
    field("reason", printable(&letter.reason))?;
    field("error", printable(&letter.error))?;
    field("fingerprint", printable(&letter.fingerprint))?;
    let (first, last) = (time(letter.first_seen), time(letter.last_seen));
    field("seen", format!("{} times, first {first}, last {last}", letter.attempts))?;
    field("traceparent", optional(content.traceparent.as_deref()))?;
    if let Some(lacks) = &letter.lacks {
        field("lacks", format!("{}: it cannot be redriven", printable(lacks)))?;
    }
    let bytes = |bytes: Option<&[u8]>, chars_max| {
        bytes.map_or("null".to_owned(), |bytes| shorten(&show_bytes(bytes), chars_max))
    };
    field("key", bytes(letter.key.as_deref(), HEADER_CHARS_MAX))?;
    for (name, value) in content.headers() {
        let value = bytes(unmasked(&name, value.as_deref()), HEADER_CHARS_MAX);
        field("header", format!("{} = {value}", printable(&name)))?;
    }
    field("value", bytes(content.value.as_deref(), VALUE_CHARS_MAX))?;
    for entry in &story.audit {
        let (at, by, why) = (time(entry.acted_at), printable(&entry.actor), printable(&entry.reason));
        field("audit", format!("{at} {} by {by}, was {}: {why}", entry.action, entry.status_before))?;
    }
    for life in &story.other_lives {
        field("other life", line(life).trim_end().to_owned())?;
    }
    Ok(text)
}

fn story_json(story: &LetterStory) -> Value {
    let mut value = whole_json(&story.whole);
    value["eventHandled"] = json!(story.is_handled);
    value["waitsFor"] = json!(story.waits_for);
    value["audit"] = story.audit.iter().map(audit_json).collect();
    value["otherLives"] = story.other_lives.iter().map(letter_json).collect();
    value
}
