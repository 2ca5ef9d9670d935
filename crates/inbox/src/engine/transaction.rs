//! One span of a batch in one transaction: fence, idempotency, effect, dead letters, offset.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::claims::{Block, Claim, Claims, Settled};
use super::failure::{Failure, is_refused};
use super::identity::week;
use super::plan::{Fate, Identity, Plan, Rejection, panic_text};
use super::span::Span;
use super::work::Shared;
use crate::dead_letter;
use crate::kill::{answer, is_sabotaged, kill_point};
use crate::projection::Projection;
use crate::store::dead_letter::insert_dead_letters;
use crate::store::handled::{insert_blocks, insert_ids, lock_blocks, update_blocks};
use crate::store::progress::{self, Advance};
use crate::store::window::{load_floor_week, load_floors};

/// What a transaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is committed.
    Committed(Advance),
    /// The offset is where this span ends: an earlier attempt, whose answer was lost, did commit.
    HadCommitted,
    /// Another owner moved the offset; nothing was written.
    Fenced { stored: i64 },
    /// Records proved to be dead letters; nothing was written, and the span is to be judged again.
    Rejected,
}

/// What the memory of handled events says.
enum Marked {
    Settled(Settled),
    /// These records may have been handled before all that is remembered.
    Outside(Vec<usize>),
}

/// A transaction to be made.
pub(crate) struct Attempt<'a, E> {
    pub(crate) plan: &'a mut Plan<E>,
    pub(crate) span: &'a Span,
    /// Numbers of the plan's sources.
    pub(crate) sources: &'a [i16],
    pub(crate) group: i16,
    /// Why the partition is not to be read beyond this span.
    pub(crate) halt: Option<&'a str>,
    /// Whether the answer to an earlier commit of this span was lost.
    pub(crate) is_in_doubt: bool,
    /// Record indexes of the new events, once they are known; stays after a failure.
    pub(crate) fresh: Vec<usize>,
    /// Their events while they are applied, and after the commit.
    pub(crate) applied: Vec<E>,
}

const fn engine(doing: &'static str) -> impl Fn(sqlx::Error) -> Failure {
    move |source| Failure::Engine { doing, source }
}

impl<E: Send + Sync + 'static> Attempt<'_, E> {
    /// Runs it. After a failure the connection may be in any state.
    pub(crate) async fn run<P: Projection<Event = E>>(
        &mut self,
        connection: &mut PgConnection,
        shared: &Shared<P>,
    ) -> Result<Ended, Failure> {
        let origin = self.plan.batch.origin.clone();
        kill_point("inbox.before_fence");
        let is_told_first = is_sabotaged("inbox.position_first");
        if is_told_first {
            self.tell_first(connection, &shared.settings.owner).await?;
        }
        let mut tx =
            connection.begin_with("begin isolation level read committed").await.map_err(engine("begin"))?;
        let stored = progress::lock_offset(&mut tx, self.group, &origin).await.map_err(engine("fence"))?;
        let stored = stored.ok_or(Failure::NoProgress)?;
        let is_unfenced = is_told_first || is_sabotaged("inbox.no_fence");
        let believed = if is_unfenced { stored } else { self.span.expected };
        if stored != believed {
            tx.rollback().await.map_err(engine("rollback"))?;
            let had_committed = self.is_in_doubt && stored == self.span.next;
            return Ok(if had_committed { Ended::HadCommitted } else { Ended::Fenced { stored } });
        }
        kill_point("inbox.after_fence");
        let settled = match self.settle(&mut tx).await? {
            Marked::Settled(settled) => settled,
            Marked::Outside(records) => {
                tx.rollback().await.map_err(engine("rollback"))?;
                for index in records {
                    let error = "its identity is older than what inbox.event_handled remembers: it may have been handled";
                    self.plan.reject(index, Rejection::new("outside_dedup_window", error));
                }
                return Ok(Ended::Rejected);
            }
        };
        kill_point("inbox.after_dedup");
        self.fresh.clone_from(&settled.fresh);
        self.take_events();
        self.apply(&mut tx, shared).await?;
        kill_point("inbox.after_upsert");
        let dead_lettered = self.write_dead_letters(&mut tx, shared).await?;
        let advance = advance(self.span, settled.fresh.len(), settled.duplicates, dead_lettered);
        let advance = Advance { expected: believed, ..advance };
        let owner = &shared.settings.owner;
        let is_moved = progress::advance(&mut tx, self.group, &origin, &advance, owner, self.halt)
            .await
            .map_err(engine("advance"))?;
        if !is_moved {
            // The row is locked, so this is a bug or a rule of the database's owner; nothing is written.
            return Err(Failure::NoProgress);
        }
        kill_point("inbox.before_commit");
        answer("inbox.commit_answer_lost", tx.commit()).await.map_err(|error| {
            if is_refused(&error) { Failure::Apply(error) } else { Failure::Commit(error) }
        })?;
        kill_point("inbox.after_commit");
        Ok(Ended::Committed(advance))
    }

    /// What a consumer does that tells how far it is before it is there: wrong on purpose.
    async fn tell_first(&self, connection: &mut PgConnection, owner: &str) -> Result<(), Failure> {
        let (expected, next) = (self.span.expected, self.span.next);
        let told = Advance { expected, next, ..Advance::default() };
        progress::advance(connection, self.group, &self.plan.batch.origin, &told, owner, None)
            .await
            .map_err(engine("tell first"))?;
        Ok(())
    }

    /// Answers which events of the span are new, and remembers them.
    async fn settle(&self, tx: &mut PgConnection) -> Result<Marked, Failure> {
        let mut claims = Claims::default();
        for index in self.span.records.clone() {
            if let Fate::Apply(identity) = &self.plan.fates[index] {
                claims.add(index, self.claim(*identity));
            }
        }
        let mut stored = BTreeMap::new();
        let mut inserted = HashSet::new();
        if !claims.masks().is_empty() {
            stored = lock_blocks(tx, self.group, claims.masks().keys()).await.map_err(engine("read bits"))?;
            let missing: Vec<_> = claims
                .masks()
                .iter()
                .filter(|(block, _)| !stored.contains_key(*block))
                .map(|(block, bits)| (*block, *bits))
                .collect();
            if !missing.is_empty() {
                inserted = insert_blocks(tx, self.group, &missing).await.map_err(engine("insert bits"))?;
                let taken: Vec<Block> = missing
                    .iter()
                    .map(|(block, _)| *block)
                    .filter(|block| !inserted.contains(block))
                    .collect();
                if !taken.is_empty() {
                    let others =
                        lock_blocks(tx, self.group, taken.iter()).await.map_err(engine("read bits"))?;
                    stored.extend(others);
                }
            }
        }
        let ids = claims.ids();
        let new_ids = if ids.is_empty() {
            HashSet::new()
        } else {
            insert_ids(tx, self.group, &ids).await.map_err(engine("insert ids"))?
        };
        let outside = self.outside(tx, &claims, &inserted, &new_ids).await?;
        if !outside.is_empty() {
            return Ok(Marked::Outside(outside));
        }
        let settled = claims.settle(&stored, &new_ids);
        if !settled.changed.is_empty() {
            let rows = update_blocks(tx, self.group, &settled.changed).await.map_err(engine("write bits"))?;
            if usize::try_from(rows) != Ok(settled.changed.len()) {
                let text = format!("{rows} of {} locked rows of inbox.event_handled", settled.changed.len());
                return Err(engine("write bits")(sqlx::Error::Protocol(text)));
            }
        }
        Ok(Marked::Settled(settled))
    }

    /// Records that are not remembered and lie below a floor. Floors are looked at only where something was not remembered.
    async fn outside(
        &self,
        tx: &mut PgConnection,
        claims: &Claims,
        inserted: &HashSet<Block>,
        new_ids: &HashSet<Uuid>,
    ) -> Result<Vec<usize>, Failure> {
        let mut floors = HashMap::new();
        if !inserted.is_empty() {
            floors = load_floors(tx, self.group, self.sources).await.map_err(engine("read floors"))?;
        }
        let mut floor_week = None;
        if !new_ids.is_empty() {
            floor_week = load_floor_week(tx, self.group).await.map_err(engine("read floors"))?;
        }
        let is_forgotten = |week: i32| week >= 0 && floor_week.is_some_and(|floor| week < floor);
        Ok(claims.outside(
            |block| {
                inserted.contains(block)
                    && floors.get(&block.source).is_some_and(|floor| block.number < *floor)
            },
            |id| new_ids.contains(id) && is_forgotten(week(*id)),
        ))
    }

    fn claim(&self, identity: Identity) -> Claim {
        match identity {
            Identity::Id(id) => Claim::Id(id),
            Identity::Sequence { source, sequence, lane } => {
                Claim::Sequence { source: self.sources[source], lane, sequence }
            }
        }
    }

    async fn apply<P: Projection<Event = E>>(
        &mut self,
        tx: &mut PgConnection,
        shared: &Shared<P>,
    ) -> Result<(), Failure> {
        if self.applied.is_empty() {
            return Ok(());
        }
        let origin = &self.plan.batch.origin;
        let topic = shared.short_topic(&origin.topic);
        let applying = shared.projection.apply(tx, topic, origin.partition, &self.applied);
        match AssertUnwindSafe(applying).catch_unwind().await {
            Ok(applied) => applied.map_err(Failure::Apply),
            Err(panic) => Err(Failure::Panic(panic_text(panic.as_ref()))),
        }
    }

    async fn write_dead_letters<P: Projection<Event = E>>(
        &self,
        tx: &mut PgConnection,
        shared: &Shared<P>,
    ) -> Result<usize, Failure> {
        let plan = &self.plan;
        let mut rows = Vec::new();
        for index in self.span.records.clone() {
            if let (Fate::Reject(rejection), Some(record)) = (&plan.fates[index], plan.batch.get(index)) {
                rows.push(dead_letter::row(
                    &shared.settings.kafka.group,
                    &plan.batch.origin,
                    &record,
                    rejection,
                ));
            }
        }
        let count = rows.len();
        if is_sabotaged("inbox.letters_are_handled") {
            let ids: BTreeSet<_> =
                rows.iter().filter_map(|row| row.event_id.as_ref()?.parse().ok()).collect();
            insert_ids(tx, self.group, &ids).await.map_err(engine("insert ids"))?;
        }
        if count > 0 {
            insert_dead_letters(tx, rows).await.map_err(engine("insert dead letters"))?;
        }
        Ok(count)
    }

    /// Takes the events of the new records out of the plan.
    pub(crate) fn take_events(&mut self) {
        let events = &mut self.plan.events;
        self.applied = self.fresh.iter().filter_map(|index| events[*index].take()).collect();
    }

    /// Puts the events back where they came from, so that the span can be tried again.
    pub(crate) fn restore(&mut self) {
        for (index, event) in self.fresh.iter().zip(self.applied.drain(..)) {
            self.plan.events[*index] = Some(event);
        }
    }
}

fn advance(span: &Span, fresh: usize, duplicates: usize, dead_lettered: usize) -> Advance {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let (handled, duplicates, dead_lettered) = (count(fresh), count(duplicates), count(dead_lettered));
    Advance {
        expected: span.expected,
        next: span.next,
        handled,
        duplicates,
        dead_lettered,
        skipped: span.advance() - handled - duplicates - dead_lettered,
    }
}
