//! Sends dead letters to their original topics again, each at most once for a call, each counted once whoever dies when.
//!
//! A chunk is one transaction: lock the letters, publish their records, await the acknowledgement, mark them and write the
//! audit. A crash before the commit leaves them as they were, and the next call sends them again: the event's identity is
//! that of its first life, so it has its effect once. Letters go in the order of their places, also with several
//! operators at once, who wait for each other's chunks.
//!
//! The first of the letters that wait in the order of their key is not sent: it is given to the consumers of its group, which
//! apply it where it lies, and then what waits behind it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use kafka_client::ProducerSettings;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::action::{ActionError, ActionReport, Mandate, Obstacle, Pace, judge_redrive};
use super::filter::{LetterFilter, LetterStatus};
use super::record::Outgoing;
use super::redriven::redriven;
use super::sender::{Sender, Unsent};
use super::walk::Walk;
use crate::kill::kill_point;
use crate::metrics;
use crate::store::blocked::{lock_keys_of, release_keys_of};
use crate::store::letter_actions::{
    LetterAction, LetterState, LockedLetter, Turn, lock_letters, record_action,
};

/// How letters are redriven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedriveSettings {
    /// How to reach the brokers.
    pub producer: ProducerSettings,
    /// The loop guard: an event that was redriven so often and failed again is left alone.
    pub redrives_max: u32,
    /// Letters of one transaction.
    pub chunk_letters_max: NonZeroU32,
    /// Bytes of their records; one more record may go beyond.
    pub chunk_bytes_max: u64,
    /// How long the acknowledgement of one transaction's records may take.
    pub ack_timeout: Duration,
    /// At most so many letters a second.
    pub letters_per_second: Option<NonZeroU32>,
}

/// Longest record of the client, above everything that a letter keeps; the brokers have their own limit.
const MESSAGE_BYTES_MAX: &str = "2097152";

/// Few enough to be sent and marked within a fraction of a second, many enough that the commit does not count.
const CHUNK_LETTERS: NonZeroU32 = NonZeroU32::new(500).expect("500 is not zero");

impl RedriveSettings {
    /// 3 redrives of an event, 500 letters or 8 MiB in a transaction, no limit of the rate.
    #[must_use]
    pub fn new(mut producer: ProducerSettings) -> Self {
        let options = &mut producer.client.options;
        options.entry("message.max.bytes".to_owned()).or_insert_with(|| MESSAGE_BYTES_MAX.to_owned());
        Self {
            producer,
            redrives_max: 3,
            chunk_letters_max: CHUNK_LETTERS,
            chunk_bytes_max: 8 * 1024 * 1024,
            ack_timeout: Duration::from_secs(30),
            letters_per_second: None,
        }
    }
}

/// Which letters, and how many at most.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The letters.
    pub filter: LetterFilter,
    /// At most so many are changed.
    pub limit: Option<u64>,
}

/// Redrives letters until all that matched at the begin are dealt with, `limit` is reached, or `stop`.
///
/// `progress` is told after each chunk. Dropping the future leaves the last chunk as it was, as a crash does.
///
/// # Errors
/// See [`ActionError`].
pub async fn redrive(
    connection: &mut PgConnection,
    settings: &RedriveSettings,
    selection: &Selection,
    mandate: &Mandate,
    stop: &CancellationToken,
    mut progress: impl FnMut(&ActionReport),
) -> Result<ActionReport, ActionError> {
    let sender = Sender::new(&settings.producer, settings.ack_timeout)?;
    let mut walk = Walk::begin(connection, &selection.filter, settings.chunk_bytes_max).await?;
    let mut report = ActionReport { matched: walk.matched, ..ActionReport::default() };
    let statuses = walk.filter().statuses.clone();
    let mut round = Round { sender, settings, statuses, mandate };
    let pace = Pace { letters_per_second: settings.letters_per_second };
    let begun = Instant::now();
    loop {
        let left = selection.limit.map_or(u64::MAX, |limit| limit.saturating_sub(report.done));
        report.is_stopped = stop.is_cancelled();
        if left == 0 || report.is_stopped {
            return Ok(report);
        }
        let letters_max = pace.chunk_letters(settings.chunk_letters_max);
        let letters_max = u32::try_from(left).map_or(letters_max, |left| letters_max.min(left));
        let chunk = walk.next(connection, letters_max).await?;
        if chunk.is_empty() {
            return Ok(report);
        }
        let states = chunk.into_iter().map(|candidate| candidate.state);
        round.run(connection, states.collect(), &mut report).await?;
        progress(&report);
        stop.run_until_cancelled(tokio::time::sleep(pace.pause(report.done, begun.elapsed()))).await;
    }
}

/// What [`redrive`] would do; changes nothing and asks no broker.
///
/// # Errors
/// The database's failure.
pub async fn preview_redrive(
    connection: &mut PgConnection,
    settings: &RedriveSettings,
    selection: &Selection,
) -> Result<ActionReport, ActionError> {
    let statuses = selection.filter.statuses.clone();
    preview(connection, selection, |state| judge_redrive(state, &statuses, settings.redrives_max)).await
}

/// Judges every letter as an action would, and does nothing.
pub(super) async fn preview(
    connection: &mut PgConnection,
    selection: &Selection,
    judge: impl Fn(&LetterState) -> Option<Obstacle>,
) -> Result<ActionReport, ActionError> {
    let mut walk = Walk::begin(connection, &selection.filter, u64::MAX).await?;
    let mut report = ActionReport { matched: walk.matched, ..ActionReport::default() };
    loop {
        let chunk = walk.next(connection, PREVIEW_LETTERS).await?;
        if chunk.is_empty() {
            return Ok(report);
        }
        for candidate in chunk {
            if selection.limit.is_some_and(|limit| report.done >= limit) {
                return Ok(report);
            }
            match judge(&candidate.state) {
                Some(obstacle) => report.leave(candidate.state.id, obstacle),
                None => report.done += 1,
            }
        }
    }
}

/// Letters of a page that is only looked at.
const PREVIEW_LETTERS: u32 = 1_000;

/// What chunks have in common.
struct Round<'a> {
    sender: Sender,
    settings: &'a RedriveSettings,
    statuses: Vec<LetterStatus>,
    mandate: &'a Mandate,
}

impl Round<'_> {
    /// One chunk.
    async fn run(
        &mut self,
        connection: &mut PgConnection,
        states: Vec<LetterState>,
        report: &mut ActionReport,
    ) -> Result<(), ActionError> {
        // Letters that are not to be sent are not read, however long they are.
        let ids: Vec<Uuid> =
            states.iter().filter(|state| self.judge(state, report)).map(|state| state.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut tx = connection.begin().await?;
        lock_keys_of(&mut tx, &ids).await?;
        let mut letters = lock_letters(&mut tx, &ids).await?;
        letters.retain(|letter| self.judge(&state_of(letter), report));
        // Sent to its topic, the first of a queue would come behind later events of its key.
        let is_queued = |letter: &&LockedLetter| letter.turn == Turn::Queued;
        let queued: Vec<Uuid> = letters.iter().filter(is_queued).map(|letter| letter.row.id).collect();
        let free: Vec<&LockedLetter> = letters.iter().filter(|letter| !is_queued(letter)).collect();
        let mut done = self.publish(&free, report).await?;
        kill_point("inbox.redrive_after_publish");
        done.extend(&queued);
        let changed = record_action(&mut tx, &done, LetterAction::Redrive, self.mandate).await?;
        if usize::try_from(changed) != Ok(done.len()) {
            return Err(ActionError::Rows { changed, locked: done.len() });
        }
        if !queued.is_empty() {
            release_keys_of(&mut tx, &queued).await?;
            kill_point("inbox.redrive_before_release");
        }
        tx.commit().await?;
        report.done += changed;
        count(&letters, &done);
        Ok(())
    }

    /// Whether a letter can be redriven; what is in the way is reported.
    fn judge(&self, state: &LetterState, report: &mut ActionReport) -> bool {
        match judge_redrive(state, &self.statuses, self.settings.redrives_max) {
            Some(obstacle) => {
                report.leave(state.id, obstacle);
                false
            }
            None => true,
        }
    }

    /// Publishes the records of letters; answers the letters whose record is stored. A record that failed in several
    /// groups is sent once for all of them.
    async fn publish(
        &mut self,
        letters: &[&LockedLetter],
        report: &mut ActionReport,
    ) -> Result<Vec<Uuid>, ActionError> {
        let mut records: Vec<(Outgoing, Vec<Uuid>)> = Vec::new();
        let mut last = None;
        for LockedLetter { row, .. } in letters {
            let count = self.sender.partition_count(&row.topic).await;
            let count =
                count.map_err(|source| ActionError::Partitions { topic: row.topic.clone(), source })?;
            if count.is_none() {
                report.leave(row.id, Obstacle::NoTopic(row.topic.clone()));
                continue;
            }
            let place = (row.topic.as_str(), row.partition, row.offset);
            match records.last_mut() {
                Some((_, ids)) if last == Some(place) => ids.push(row.id),
                _ => records.push((redriven(row), vec![row.id])),
            }
            last = Some(place);
        }
        let all: Vec<&Outgoing> = records.iter().map(|(record, _)| record).collect();
        match self.sender.send(&all).await {
            Ok(()) => Ok(records.into_iter().flat_map(|(_, ids)| ids).collect()),
            Err(Unsent::Refused(_)) => self.publish_singly(records, report).await,
            Err(error @ (Unsent::Failed(_) | Unsent::Late(_))) => Err(ActionError::unsent(&error)),
        }
    }

    /// Finds the records that the brokers refuse. Others are stored a second time, which changes nothing.
    async fn publish_singly(
        &self,
        records: Vec<(Outgoing, Vec<Uuid>)>,
        report: &mut ActionReport,
    ) -> Result<Vec<Uuid>, ActionError> {
        let mut sent = Vec::new();
        for (record, ids) in records {
            match self.sender.send(&[&record]).await {
                Ok(()) => sent.extend(ids),
                Err(Unsent::Refused(error)) => {
                    let text = crate::engine::failure::chain(&error);
                    ids.into_iter().for_each(|id| report.leave(id, Obstacle::Refused(text.clone())));
                }
                Err(error @ (Unsent::Failed(_) | Unsent::Late(_))) => {
                    return Err(ActionError::unsent(&error));
                }
            }
        }
        Ok(sent)
    }
}

fn state_of(letter: &LockedLetter) -> LetterState {
    LetterState {
        id: letter.row.id,
        status: letter.status,
        redrive_count: letter.row.redrive_count,
        lacks: letter.row.lacks.clone(),
        turn: letter.turn,
    }
}

fn count(letters: &[LockedLetter], sent: &[Uuid]) {
    let mut by_group: BTreeMap<&str, u64> = BTreeMap::new();
    for letter in letters.iter().filter(|letter| sent.contains(&letter.row.id)) {
        *by_group.entry(&letter.row.consumer_group).or_default() += 1;
    }
    for (group, letters) in by_group {
        metrics::redriven(group, letters);
    }
}
