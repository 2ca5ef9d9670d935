//! Forgets what was handled long ago, so that `event_handled` does not grow for ever.
//!
//! Invariant: what is forgotten and the floor that tells of it change in one transaction. An event below the floor that is
//! not remembered becomes a dead letter (`outside_dedup_window`): it may have been handled, so it is never counted again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio_util::sync::CancellationToken;

use crate::engine::failure::chain;
use crate::engine::identity::WEEK;
use crate::metrics;
use crate::settings::SettingsError;
use crate::store::window::{
    Target, add_week, delete_samples, drop_week, forget_blocks, forget_rest_of_weeks, forget_timeless,
    insert_samples, limit_lock_waits, list_targets, list_weeks, load_now, try_lock_round,
};

/// Weeks of ids whose partition is made ahead.
const WEEKS_AHEAD: i32 = 4;
/// Numbers of blocks that one transaction forgets: up to 24 rows of 512 bytes each.
const BLOCKS_AT_ONCE: i64 = 500;
/// Ids that one transaction forgets row by row.
const IDS_AT_ONCE: i64 = 10_000;
/// Longest wait for a lock that a consumer holds: shorter than the server's `deadlock_timeout`, so that it is retention
/// that gives way.
const LOCK_WAIT_MILLIS: u64 = 500;

/// How long what was handled is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Events with a sequence, and ids that are no `UUIDv7`. At least an hour.
    pub keep: Duration,
    /// Ids that are `UUIDv7`, by the time that is in them and by when they were handled, in whole weeks. At least a week.
    pub keep_ids: Duration,
    /// Between two rounds.
    pub interval: Duration,
}

impl Default for RetentionSettings {
    /// 400 days, 8 weeks, each hour.
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(400 * 24 * 3_600),
            keep_ids: WEEK * 8,
            interval: Duration::from_secs(3_600),
        }
    }
}

impl RetentionSettings {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refuse = |name, rule| Err(SettingsError { name, rule });
        // Far above what a transaction takes, and within what the database's intervals and a clock can hold.
        let longest = Duration::from_secs(100 * 366 * 24 * 3_600);
        if self.keep < Duration::from_secs(3_600) || self.keep > longest {
            return refuse("keep", "must be an hour to a hundred years");
        }
        if self.keep_ids < WEEK || self.keep_ids > longest {
            return refuse("keep_ids", "must be a week to a hundred years");
        }
        if self.interval.is_zero() || self.interval > Duration::from_secs(7 * 24 * 3_600) {
            return refuse("interval", "must be at most a week, and not 0");
        }
        Ok(())
    }
}

/// What a round has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Events with a sequence.
    pub sequences: i64,
    /// Events known by an id.
    pub ids: i64,
    /// Something was left because a consumer, or another process's round, was at it; a later round goes on.
    pub gave_way: bool,
}

/// Does a round now and each `interval`, until `stop`. Failures are logged, and the next round begins where they came.
///
/// # Errors
/// Settings out of their range.
pub async fn run(
    settings: RetentionSettings,
    options: PgConnectOptions,
    stop: CancellationToken,
) -> Result<(), SettingsError> {
    settings.check()?;
    metrics::describe();
    let round = async || {
        let mut connection = options.clone().application_name("inbox-retention").connect().await?;
        let forgotten = forget_now(&mut connection, &settings).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(forgotten)
    };
    loop {
        match stop.run_until_cancelled(round()).await {
            Some(Ok(Forgotten { sequences: 0, ids: 0, .. })) => {}
            Some(Ok(Forgotten { sequences, ids, gave_way })) => {
                tracing::info!(sequences, ids, gave_way, "events handled long ago were forgotten");
            }
            Some(Err(error)) => {
                tracing::warn!(error = chain(&error), "forgetting what was handled long ago failed");
            }
            None => return Ok(()),
        }
        if stop.run_until_cancelled(tokio::time::sleep(settings.interval)).await.is_none() {
            return Ok(());
        }
    }
}

/// One round, in short transactions. Waits for nobody: what a consumer holds is left for the next round.
///
/// # Errors
/// The database's failure; what was forgotten before it stays so.
pub async fn forget_now(
    connection: &mut PgConnection,
    settings: &RetentionSettings,
) -> Result<Forgotten, sqlx::Error> {
    limit_lock_waits(connection, LOCK_WAIT_MILLIS).await?;
    let mut round = Round { connection, forgotten: Forgotten::default() };
    round.forget_sequences(settings).await?;
    round.forget_ids(settings).await?;
    let forgotten = round.forgotten;
    metrics::forgotten(forgotten.sequences, forgotten.ids);
    Ok(forgotten)
}

/// What one transaction does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Sample(PgInterval),
    RaiseFloor(Target),
    AddWeek(i32),
    DropWeek(i32, DateTime<Utc>),
    ForgetRestOfWeeks(i32, DateTime<Utc>),
    ForgetTimeless(DateTime<Utc>),
}

/// What it came to.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    sequences: i64,
    ids: i64,
    /// The same step has more to do.
    is_partial: bool,
}

impl Step {
    async fn work(self, tx: &mut PgConnection) -> Result<Done, sqlx::Error> {
        let rows = |ids| Done { ids, is_partial: ids == IDS_AT_ONCE, ..Done::default() };
        match self {
            Self::Sample(gap) => insert_samples(tx, gap).await.map(|()| Done::default()),
            Self::RaiseFloor(target) => {
                let (floor, sequences) = forget_blocks(tx, target, BLOCKS_AT_ONCE).await?;
                let is_partial = floor < target.block;
                if !is_partial {
                    delete_samples(tx, target).await?;
                }
                Ok(Done { sequences, is_partial, ..Done::default() })
            }
            Self::AddWeek(week) => add_week(tx, week).await.map(|_| Done::default()),
            Self::DropWeek(week, before) => {
                let ids = drop_week(tx, week, before).await?.unwrap_or_default();
                Ok(Done { ids, ..Done::default() })
            }
            Self::ForgetRestOfWeeks(week, before) => {
                forget_rest_of_weeks(tx, week, before, IDS_AT_ONCE).await.map(rows)
            }
            Self::ForgetTimeless(before) => forget_timeless(tx, before, IDS_AT_ONCE).await.map(rows),
        }
    }
}

struct Round<'c> {
    connection: &'c mut PgConnection,
    forgotten: Forgotten,
}

impl Round<'_> {
    async fn forget_sequences(&mut self, settings: &RetentionSettings) -> Result<(), sqlx::Error> {
        // A little less than the interval, so that the next round of the same process is not too early.
        self.take(Step::Sample(interval(settings.interval / 10 * 9))).await?;
        for target in list_targets(self.connection, interval(settings.keep)).await? {
            self.take(Step::RaiseFloor(target)).await?;
        }
        Ok(())
    }

    async fn forget_ids(&mut self, settings: &RetentionSettings) -> Result<(), sqlx::Error> {
        let now = load_now(self.connection).await?;
        let this_week = week_of(now);
        for week in this_week..=this_week.saturating_add(WEEKS_AHEAD) {
            self.take(Step::AddWeek(week)).await?;
        }
        let before = ago(now, settings.keep_ids);
        let past = week_of(before);
        for week in list_weeks(self.connection, past).await? {
            self.take(Step::DropWeek(week, before)).await?;
        }
        self.take(Step::ForgetRestOfWeeks(past, before)).await?;
        self.take(Step::ForgetTimeless(ago(now, settings.keep))).await
    }

    /// Takes the step until there is nothing more to do for it, or somebody else is at it.
    async fn take(&mut self, step: Step) -> Result<(), sqlx::Error> {
        while let Some(done) = self.take_once(step).await? {
            self.forgotten.sequences += done.sequences;
            self.forgotten.ids += done.ids;
            if !done.is_partial {
                return Ok(());
            }
        }
        self.forgotten.gave_way = true;
        Ok(())
    }

    /// One transaction; `None` when somebody was at it.
    async fn take_once(&mut self, step: Step) -> Result<Option<Done>, sqlx::Error> {
        let mut tx = self.connection.begin().await?;
        if !try_lock_round(&mut tx).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        match step.work(&mut tx).await {
            Ok(done) => {
                tx.commit().await?;
                Ok(Some(done))
            }
            Err(error) => {
                tx.rollback().await?;
                if is_lock_conflict(&error) { Ok(None) } else { Err(error) }
            }
        }
    }
}

/// `lock_not_available` or `deadlock_detected`.
fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

fn ago(now: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|delta| now.checked_sub_signed(delta))
        .unwrap_or(DateTime::UNIX_EPOCH)
}

fn week_of(time: DateTime<Utc>) -> i32 {
    let week = i64::try_from(WEEK.as_secs()).unwrap_or(i64::MAX);
    i32::try_from(time.timestamp().div_euclid(week)).unwrap_or(i32::MAX)
}
