//! What operators read: lists, causes, one letter with everything that is known about it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use super::filter::{LetterFilter, LetterStatus};
use super::headers::decode;
use crate::engine::identity::{FoundIdentity, IdentityHeaders, lane};
use crate::engine::session;
use crate::store::{handled, letters};

/// A dead letter without its record's bytes.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Letter {
    /// Its own id: a function of group, topic, partition and offset.
    pub id: Uuid,
    /// Where it came from, and whose it is.
    #[sqlx(flatten)]
    pub place: LetterPlace,
    /// Header `ce_id`.
    pub event_id: Option<String>,
    /// Header `ce_type`.
    pub event_type: Option<String>,
    /// Stable slug.
    pub reason: String,
    /// The same for letters of one cause.
    pub fingerprint: String,
    /// What was wrong.
    pub error: String,
    /// How often the record was set aside: more than once only after its offset was moved back by hand.
    pub attempts: i32,
    /// When it was set aside first.
    pub first_seen: DateTime<Utc>,
    /// When it was set aside last.
    pub last_seen: DateTime<Utc>,
    /// Where it is in its life.
    #[sqlx(try_from = "String")]
    pub status: LetterStatus,
    /// How often its event was redriven.
    pub redrive_count: i32,
    /// The first letter of its event, if this is a later one.
    pub first_id: Option<Uuid>,
    /// What of the record is not stored; such a letter cannot be redriven.
    pub lacks: Option<String>,
    /// The record's key, at most 64 KiB of it.
    pub key: Option<Vec<u8>>,
    /// How long the value was; `None` for a tombstone.
    pub value_bytes: Option<i64>,
}

/// Where a letter came from. Actions go through letters in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct LetterPlace {
    /// Full topic name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record's place in it.
    pub offset: i64,
    /// Full name of the consumer group.
    pub consumer_group: String,
}

/// The rest of a letter's record.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LetterContent {
    /// The record's value, at most 1 MiB of it.
    pub value: Option<Vec<u8>>,
    /// When the record was stamped, milliseconds since 1970.
    pub record_timestamp: Option<i64>,
    /// Who stamped it, in Kafka's words.
    pub record_timestamp_type: Option<String>,
    /// Header `traceparent`.
    pub traceparent: Option<String>,
    headers: serde_json::Value,
}

impl LetterContent {
    /// The record's headers, in order, at most 64 KiB of them.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        decode(&self.headers)
    }
}

/// A letter and its record.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct WholeLetter {
    /// What is known about it.
    #[sqlx(flatten)]
    pub letter: Letter,
    /// Its bytes.
    #[sqlx(flatten)]
    pub content: LetterContent,
}

/// What an operator did to a letter.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditEntry {
    /// Shared by all letters of one call.
    pub operation_id: Uuid,
    /// When.
    pub acted_at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// `redrive` or `discard`.
    pub action: String,
    /// Why.
    pub reason: String,
    /// Which letter.
    pub dead_letter_id: Uuid,
    /// Its status before.
    pub status_before: String,
    /// How often its event had been redriven afterwards.
    pub redrive_count: i32,
}

/// One letter with everything that is known about its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterStory {
    /// The letter itself.
    pub whole: WholeLetter,
    /// Whether its group has handled the event by now; `None` if the record does not say which event it is.
    pub is_handled: Option<bool>,
    /// The letter that it waits for: the first in the order of its key.
    pub waits_for: Option<Uuid>,
    /// Other letters of the same event, oldest first.
    pub other_lives: Vec<Letter>,
    /// What was done to it, oldest first.
    pub audit: Vec<AuditEntry>,
}

/// Letters of one cause.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LetterGroup {
    /// Of event type, reason and the error without its particulars.
    pub fingerprint: String,
    /// How many.
    pub letters: i64,
    /// How many of them nobody has dealt with.
    pub open: i64,
    /// Consumer groups that have such letters.
    pub consumer_groups: Vec<String>,
    /// Topics that they came from.
    pub topics: Vec<String>,
    /// Since when.
    pub first_seen: DateTime<Utc>,
    /// Until when.
    pub last_seen: DateTime<Utc>,
    /// The newest of them.
    pub sample_id: Uuid,
    /// Its event type.
    pub event_type: Option<String>,
    /// Its reason.
    pub reason: String,
    /// Its error.
    pub sample_error: String,
}

/// Letters of one group whose events wait.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct LetterDepth {
    /// Full name of the consumer group.
    pub consumer_group: String,
    /// `new`, `published` or `blocked`.
    #[sqlx(try_from = "String")]
    pub status: LetterStatus,
    /// How many.
    pub letters: i64,
    /// How long the oldest has waited, in seconds.
    pub oldest_age_seconds: f64,
}

impl LetterDepth {
    /// How long the oldest has waited.
    #[must_use]
    pub fn oldest_age(&self) -> Duration {
        Duration::try_from_secs_f64(self.oldest_age_seconds).unwrap_or_default()
    }
}

/// A connection for the functions of this module: waits for the server 10 s at most, and plans each statement for the
/// conditions at hand.
///
/// # Errors
/// The server's refusal.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    session::connect(&session::session_options(options)).await
}

/// The database's clock, by which letters are dated.
///
/// # Errors
/// The database's failure.
pub async fn clock(connection: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    letters::clock(connection).await
}

/// The newest letters, newest first.
///
/// # Errors
/// The database's failure.
pub async fn list_letters(
    connection: &mut PgConnection,
    filter: &LetterFilter,
    limit: u32,
) -> Result<Vec<Letter>, sqlx::Error> {
    letters::list_newest(connection, filter, i64::from(limit)).await
}

/// How many letters there are.
///
/// # Errors
/// The database's failure.
pub async fn count_letters(connection: &mut PgConnection, filter: &LetterFilter) -> Result<u64, sqlx::Error> {
    let count = letters::count(connection, filter).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Letters with their records, by place, those after `cursor`.
///
/// # Errors
/// The database's failure.
pub async fn list_whole_letters(
    connection: &mut PgConnection,
    filter: &LetterFilter,
    cursor: Option<&LetterPlace>,
    limit: u32,
) -> Result<Vec<WholeLetter>, sqlx::Error> {
    letters::list_whole(connection, filter, cursor, i64::from(limit)).await
}

/// Letters by cause, the most frequent first.
///
/// # Errors
/// The database's failure.
pub async fn group_letters(
    connection: &mut PgConnection,
    filter: &LetterFilter,
    limit: u32,
) -> Result<Vec<LetterGroup>, sqlx::Error> {
    letters::group(connection, filter, i64::from(limit)).await
}

/// One letter and the story of its event.
///
/// # Errors
/// The database's failure.
pub async fn find_story(connection: &mut PgConnection, id: Uuid) -> Result<Option<LetterStory>, sqlx::Error> {
    let filter =
        LetterFilter { ids: vec![id], statuses: LetterStatus::ALL.to_vec(), ..LetterFilter::default() };
    let Some(whole) = letters::list_whole(connection, &filter, None, 1).await?.pop() else {
        return Ok(None);
    };
    let is_handled = find_handled(connection, &whole).await?;
    let waits_for = match whole.letter.status {
        LetterStatus::Blocked => letters::find_first_of_key(connection, id).await?,
        _ => None,
    };
    let first_id = whole.letter.first_id.unwrap_or(id);
    let other_lives = letters::list_lives(connection, first_id, id).await?;
    let audit = letters::list_audit(connection, id).await?;
    Ok(Some(LetterStory { whole, is_handled, waits_for, other_lives, audit }))
}

/// What groups have waiting for an operator.
///
/// # Errors
/// The database's failure.
pub async fn letter_depths(
    connection: &mut PgConnection,
    groups: &[String],
) -> Result<Vec<LetterDepth>, sqlx::Error> {
    letters::depths(connection, groups).await
}

/// Looks the event up where the consumer does.
async fn find_handled(
    connection: &mut PgConnection,
    whole: &WholeLetter,
) -> Result<Option<bool>, sqlx::Error> {
    let headers = whole.content.headers();
    let value_of = |name: &str| {
        let (_, value) = headers.iter().find(|(found, value)| found == name && value.is_some())?;
        value.as_deref()
    };
    let identity = IdentityHeaders {
        id: value_of("ce_id"),
        source: value_of("ce_source"),
        sequence: value_of("ce_sequence"),
    };
    let group = &whole.letter.place.consumer_group;
    let is_handled = match identity.find() {
        Ok(FoundIdentity::Id(id)) => handled::has_id(connection, group, id).await?,
        Ok(FoundIdentity::Sequence { source, sequence }) => {
            let lane = lane(whole.letter.key.as_deref());
            handled::has_sequence(connection, group, source, lane, sequence).await?
        }
        Err(_) => return Ok(None),
    };
    Ok(Some(is_handled))
}
