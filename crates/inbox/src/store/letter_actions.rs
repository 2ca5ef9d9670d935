//! `inbox.dead_letter` as operators change it: found by place, locked, changed together with its audit.

use sqlx::PgConnection;
use uuid::Uuid;

use super::dead_letter::{Row, row_columns};
use super::letters::{after_cursor, bind, bind_cursor, matching};
use crate::dead_letter::{LetterFilter, LetterPlace, LetterStatus, Mandate};

/// What decides whether a letter can be acted on.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct LetterState {
    pub(crate) id: Uuid,
    #[sqlx(try_from = "String")]
    pub(crate) status: LetterStatus,
    pub(crate) redrive_count: i32,
    pub(crate) lacks: Option<String>,
    #[sqlx(try_from = "String")]
    pub(crate) turn: Turn,
}

/// Where a letter is in the order of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Letters of its key have no order.
    Free,
    /// It is in the queue: the first, or behind the first.
    Queued,
    /// Later events of its key have had their effect.
    Passed,
}

impl TryFrom<String> for Turn {
    type Error = sqlx::error::BoxDynError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "free" => Ok(Self::Free),
            "queued" => Ok(Self::Queued),
            "passed" => Ok(Self::Passed),
            _ => Err(format!("'{text}' is no turn").into()),
        }
    }
}

/// The [`Turn`] of a row of `inbox.dead_letter` under the name `d`.
macro_rules! turn_of_d {
    () => {
        "case when d.turn is null then 'free'
              when exists (
                   select from inbox.blocked_key k
                    where k.consumer_group = d.consumer_group and k.topic = d.topic and k.key_digest = d.key_digest
                      and k.passed_turn < d.turn) then 'queued'
              else 'passed'
         end as turn"
    };
}

/// A letter that matches, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Candidate {
    #[sqlx(flatten)]
    pub(crate) state: LetterState,
    #[sqlx(flatten)]
    pub(crate) place: LetterPlace,
    /// About how long its record is.
    pub(crate) bytes: i64,
}

/// A locked letter with its record.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct LockedLetter {
    #[sqlx(try_from = "String")]
    pub(crate) status: LetterStatus,
    #[sqlx(try_from = "String")]
    pub(crate) turn: Turn,
    #[sqlx(flatten)]
    pub(crate) row: Row,
}

/// What an operator does to letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetterAction {
    Redrive,
    Discard,
}

impl LetterAction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard => "discard",
        }
    }

    const fn status_after(self) -> LetterStatus {
        match self {
            Self::Redrive => LetterStatus::Redriven,
            Self::Discard => LetterStatus::Discarded,
        }
    }

    const fn redrives(self) -> i32 {
        match self {
            Self::Redrive => 1,
            Self::Discard => 0,
        }
    }
}

/// The next letters after `cursor`, by place.
pub(crate) async fn list_candidates(
    connection: &mut PgConnection,
    filter: &LetterFilter,
    cursor: Option<&LetterPlace>,
    limit: i64,
) -> Result<Vec<Candidate>, sqlx::Error> {
    let statement = concat!(
        "select id, status, redrive_count, lacks, topic, partition, \"offset\", consumer_group,
                coalesce(octet_length(key), 0)::bigint + coalesce(octet_length(value), 0) + pg_column_size(headers)
                    as bytes,
                ",
        turn_of_d!(),
        " from inbox.dead_letter d
          where ",
        matching!(),
        " and ",
        after_cursor!(),
        " order by topic, partition, \"offset\", consumer_group limit $15"
    );
    let query = bind_cursor(bind(sqlx::query_as(statement), filter), cursor);
    query.bind(limit).fetch_all(connection).await
}

/// Locks letters to the end of the transaction, by place: whoever else acts on them waits, and then sees what became of
/// them. Their keys are locked before ([`lock_keys_of`](super::blocked::lock_keys_of)).
pub(crate) async fn lock_letters(
    tx: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<LockedLetter>, sqlx::Error> {
    sqlx::query_as(concat!(
        "select status, ",
        row_columns!(),
        ", ",
        turn_of_d!(),
        r#"  from inbox.dead_letter d
            where id = any($1)
            order by topic, partition, "offset", consumer_group
              for update"#,
    ))
    .bind(ids)
    .fetch_all(tx)
    .await
}

/// As [`lock_letters`], without the records.
pub(crate) async fn lock_states(
    tx: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<LetterState>, sqlx::Error> {
    sqlx::query_as(concat!(
        "select id, status, redrive_count, lacks, ",
        turn_of_d!(),
        r#"  from inbox.dead_letter d
            where id = any($1)
            order by topic, partition, "offset", consumer_group
              for update"#,
    ))
    .bind(ids)
    .fetch_all(tx)
    .await
}

/// Changes locked letters and writes down who did it and why; answers how many.
pub(crate) async fn record_action(
    tx: &mut PgConnection,
    ids: &[Uuid],
    action: LetterAction,
    mandate: &Mandate,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "-- The states before the change.
         with before as (
             select id, status from inbox.dead_letter where id = any($1)),
         -- The change.
         changed as (
             update inbox.dead_letter d
                set status = $2, redrive_count = d.redrive_count + $3
               from before
              where d.id = before.id
             returning d.id, before.status as status_before, d.redrive_count)
         insert into inbox.dead_letter_audit
             (operation_id, actor, action, reason, dead_letter_id, status_before, redrive_count)
         select $4, $5, $6, $7, id, status_before, redrive_count from changed",
    )
    .bind(ids)
    .bind(action.status_after().as_str())
    .bind(action.redrives())
    .bind(mandate.operation_id())
    .bind(mandate.by())
    .bind(action.as_str())
    .bind(mandate.why())
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
