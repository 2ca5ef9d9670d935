//! One look after another at segments and backlog: truncates what is due, reports what is not as it should be, each
//! change once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use super::alarm::{Alarm, AlarmText, decide_alarm};
use super::ring::{Phase, place};
use super::{Kept, RetentionSettings, RetentionStatus, truncate_now};
use crate::metrics::{self, SegmentTrouble};
use crate::overview::{SAMPLED_ROWS_MAX, behind, total};
use crate::store::overview::{connect_observer, load_shards};
use crate::store::segment::{StoredSegment, load_segments, mark_emptied};

/// Longest statement. What is asked is bounded by indexes; this ends what is not, as the count in a giant window that is
/// published in part.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Each attempt at a segment that others hold makes readers wait for `lock_timeout`: so attempts become rarer, up to one in
/// so many looks.
const SKIPPED_LOOKS_MAX: u32 = 32;

/// What is wrong with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is due and was kept.
    Kept(Kept),
    /// It is filled again although it was not emptied.
    CameRound,
}

/// What is remembered of a segment between two looks.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    trouble: Option<Trouble>,
    pause: Pause,
}

/// Looks to pass over after failed attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pause {
    left: u32,
    next: u32,
}

pub(super) struct Keeper {
    settings: RetentionSettings,
    status: Arc<RetentionStatus>,
    segments: BTreeMap<i16, Watched>,
    alarm: Alarm,
}

impl Keeper {
    pub(super) fn new(settings: RetentionSettings, status: Arc<RetentionStatus>) -> Self {
        Self { settings, status, segments: BTreeMap::new(), alarm: Alarm::default() }
    }

    pub(super) async fn connect_and_look(
        &mut self,
        connection: &mut Option<PgConnection>,
        options: &PgConnectOptions,
    ) -> Result<(), sqlx::Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => {
                connection.insert(connect_observer(options, "outbox-retention", STATEMENT_TIMEOUT).await?)
            }
        };
        for stored in load_segments(connection).await? {
            self.look_at(connection, &stored).await?;
        }
        self.report_troubles();
        self.measure_backlog(connection).await
    }

    async fn look_at(
        &mut self,
        connection: &mut PgConnection,
        stored: &StoredSegment,
    ) -> Result<(), sqlx::Error> {
        metrics::segment_seen(stored.segment, stored.bytes, stored.rows_estimate);
        let place = place(stored.segment, stored.now, stored.emptied_at, self.settings.keep);
        let is_empty = stored.heap_bytes == 0;
        let trouble = match place.phase {
            Phase::Filling | Phase::Settling => (place.came_round && !is_empty).then_some(Trouble::CameRound),
            Phase::Due if is_empty => {
                if stored.emptied_at < place.hour_end {
                    mark_emptied(connection, stored.segment).await?;
                }
                None
            }
            Phase::Due => self.tend(connection, stored).await?,
        };
        let watched = self.segments.entry(stored.segment).or_default();
        if watched.trouble != trouble {
            log_change(stored.segment, watched.trouble, trouble);
            watched.trouble = trouble;
        }
        Ok(())
    }

    /// Tries to truncate a segment that is due, unless it is too soon after the last attempt.
    async fn tend(
        &mut self,
        connection: &mut PgConnection,
        stored: &StoredSegment,
    ) -> Result<Option<Trouble>, sqlx::Error> {
        let watched = self.segments.entry(stored.segment).or_default();
        if watched.pause.passes() {
            return Ok(watched.trouble);
        }
        let kept = truncate_now(connection, stored.segment, self.settings.lock_timeout).await?;
        if kept == Some(Kept::Locked) {
            watched.pause.lengthen();
        } else {
            watched.pause = Pause::default();
        }
        match kept {
            None => {
                metrics::truncated(stored.bytes);
                tracing::info!(segment = stored.segment, bytes = stored.bytes, "outbox segment is truncated");
                Ok(None)
            }
            // It is being done, and the next look sees how it went.
            Some(Kept::Elsewhere) => Ok(watched.trouble),
            Some(reason) => Ok(Some(Trouble::Kept(reason))),
        }
    }

    fn report_troubles(&self) {
        for trouble in SegmentTrouble::ALL {
            let is_this = |watched: &&Watched| watched.trouble.is_some_and(|found| trouble == name_of(found));
            metrics::segments_in_trouble(trouble, self.segments.values().filter(is_this).count());
        }
    }

    async fn measure_backlog(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let shards = load_shards(connection, SAMPLED_ROWS_MAX).await?;
        let waiting = total(shards.iter().map(|shard| behind(shard, SAMPLED_ROWS_MAX)));
        let alarm = decide_alarm(self.alarm, waiting, self.settings.limits());
        let text = AlarmText(alarm, waiting, self.settings.limits()).to_string();
        let is_raised = alarm != Alarm::default();
        if alarm != self.alarm {
            if is_raised {
                tracing::warn!(
                    rows = waiting.rows.count,
                    age_seconds = waiting.oldest_age.unwrap_or_default().as_secs(),
                    "outbox backlog is over its limit: {text}"
                );
            } else {
                tracing::info!(rows = waiting.rows.count, "outbox backlog is below its limits again");
            }
        }
        metrics::backlog_measured(waiting, alarm.is_old, alarm.is_long);
        self.alarm = alarm;
        self.status.set_alarm(is_raised.then_some(text));
        Ok(())
    }
}

impl Pause {
    /// Whether this look is to be passed over.
    fn passes(&mut self) -> bool {
        let passes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        passes
    }

    fn lengthen(&mut self) {
        self.next = (self.next * 2 + 1).min(SKIPPED_LOOKS_MAX - 1);
        self.left = self.next;
    }
}

fn name_of(trouble: Trouble) -> SegmentTrouble {
    match trouble {
        Trouble::Kept(Kept::Unpublished) => SegmentTrouble::Unpublished,
        Trouble::Kept(Kept::Locked | Kept::Elsewhere) => SegmentTrouble::Locked,
        Trouble::Kept(Kept::Untrusted) => SegmentTrouble::Untrusted,
        Trouble::CameRound => SegmentTrouble::CameRound,
    }
}

fn log_change(segment: i16, before: Option<Trouble>, trouble: Option<Trouble>) {
    let why = match trouble {
        None if before.is_some() => {
            tracing::info!(segment, "outbox segment is as it should be again");
            return;
        }
        None => return,
        Some(Trouble::Kept(Kept::Unpublished)) => "it holds events that are not published",
        Some(Trouble::Kept(Kept::Locked | Kept::Elsewhere)) => "transactions hold it",
        Some(Trouble::Kept(Kept::Untrusted)) => "the positions cannot be trusted",
        Some(Trouble::CameRound) => "its turn came again before it could be emptied; it is filled further",
    };
    tracing::warn!(segment, why, "outbox segment is kept; nothing is lost, but it needs its space");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_at_a_held_segment_become_rarer_up_to_a_limit() {
        let mut pause = Pause::default();
        let mut passed_over = Vec::new();
        for _ in 0..8 {
            assert!(!pause.passes(), "an attempt is made");
            pause.lengthen();
            let mut looks = 0;
            while pause.left > 0 {
                assert!(pause.passes());
                looks += 1;
            }
            passed_over.push(looks);
        }
        assert_eq!(passed_over, [1, 3, 7, 15, 31, 31, 31, 31]);
    }
}
