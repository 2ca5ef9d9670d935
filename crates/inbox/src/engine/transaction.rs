//! One span of a batch in one transaction: fence, idempotency, effect, dead letters, offset.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use kafka_client::TopicPartition;
use sqlx::PgConnection;

use super::claims::{Bits, Block, Claims};
use super::failure::{Failure, engine, is_refused};
use super::memory::{Marked, Memory, outside};
use super::order::{self, Order, order};
use super::plan::{Fate, Identity, Plan, Rejection, panic_text};
use super::session::roll_back;
use super::span::Span;
use super::spans::{Part, Position};
use super::work::Shared;
use crate::dead_letter;
use crate::kill::{answer, is_sabotaged, kill_point};
use crate::projection::{OrderingMode, Projection};
use crate::store::batch::{self, Advance, Place, Unfinished};
use crate::store::blocked::{self, Topic};
use crate::store::dead_letter::{NewLetter, insert_dead_letters};
use crate::store::handled::insert_ids;

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is committed.
    Committed {
        advance: Advance,
        /// Records that wait behind a dead letter of their key.
        waiting: BTreeSet<usize>,
        /// Why the partition is not read beyond it.
        halt: Option<String>,
    },
    /// The offset is where this span ends: an earlier attempt, whose answer was lost, did commit.
    HadCommitted {
        /// Why the partition is not read beyond it.
        halt: Option<String>,
    },
    /// Another owner moved the offset; nothing was written.
    Fenced { stored: i64 },
    /// The partition is halted, by a commit that this worker does not know of; nothing was written.
    Halted(String),
    /// Records proved to be dead letters; nothing was written, and the span is to be judged again.
    Rejected,
}

/// What a transaction has locked before its effect.
struct Held {
    order: Order,
    claims: Claims,
    /// Those of the claims that exist.
    blocks: BTreeMap<Block, Bits>,
}

/// A transaction to be made.
pub(crate) struct Attempt<'a, E> {
    pub(crate) plan: &'a mut Plan<E>,
    pub(crate) part: &'a Part,
    /// Numbers of the plan's sources.
    pub(crate) sources: &'a [i16],
    pub(crate) group: i16,
    /// Record indexes of the new events, once they are known; stays after a failure.
    pub(crate) fresh: Vec<usize>,
    /// Their events while they are applied, and after the commit.
    pub(crate) applied: Vec<E>,
}

impl<E: Send + Sync + 'static> Attempt<'_, E> {
    /// Runs it. After a failure the connection may be in any state; without one it has no transaction.
    pub(crate) async fn run<P: Projection<Event = E>>(
        &mut self,
        connection: &mut PgConnection,
        shared: &Shared<P>,
    ) -> Result<Ended, Failure> {
        kill_point("inbox.before_fence");
        let is_told_first = is_sabotaged("inbox.position_first");
        if is_told_first {
            self.tell_first(connection, shared).await?;
        }
        let memory = Memory { group: self.group, sources: self.sources };
        let is_unfenced = is_told_first || is_sabotaged("inbox.no_fence");
        let expected = (!is_unfenced).then_some(self.part.span.expected);
        let (place, held) = self.begin_and_lock(connection, shared, memory, expected).await?;
        let believed = expected.unwrap_or(place.next_offset);
        if let Some(ended) = expected.and_then(|_| self.kept_out(place)) {
            roll_back(connection).await?;
            return Ok(ended);
        }
        kill_point("inbox.after_fence");
        let Held { order, claims, blocks } = held;
        let settled = match memory.settle(connection, claims, blocks).await? {
            Marked::Settled(settled) => settled,
            Marked::Outside(records) => {
                roll_back(connection).await?;
                records.into_iter().for_each(|index| self.plan.reject(index, outside()));
                return Ok(Ended::Rejected);
            }
        };
        kill_point("inbox.after_dedup");
        self.fresh.clone_from(&settled.fresh);
        self.take_events();
        apply(connection, shared, &self.plan.batch.origin, &self.applied).await?;
        kill_point("inbox.after_upsert");
        let dead_lettered = self.write_dead_letters(connection, shared, &order).await?;
        let halt = match &self.part.halt {
            Some(flood) => Some(flood.clone()),
            None => self.crowding(connection, shared, &order).await?,
        };
        let advance = advance(&self.part.span, settled.fresh.len(), settled.duplicates, dead_lettered);
        let advance = Advance { expected: believed, ..advance };
        kill_point("inbox.before_commit");
        let finishing = self.finish(connection, shared, &advance, halt.as_deref(), &settled.changed);
        answer("inbox.commit_answer_lost", finishing).await?;
        kill_point("inbox.after_commit");
        Ok(Ended::Committed { advance, waiting: order.waiting, halt })
    }

    /// What the fence makes of a partition's place, unless it is the part's turn.
    fn kept_out(&self, place: Place) -> Option<Ended> {
        let Place { next_offset: stored, halted } = place;
        match self.part.judge(stored, halted.is_some()) {
            Position::Expected => None,
            Position::HadCommitted => Some(Ended::HadCommitted { halt: halted }),
            Position::Fenced => Some(Ended::Fenced { stored }),
            Position::Halted => halted.map(Ended::Halted),
        }
    }

    /// Moves the offset and commits.
    async fn finish<P: Projection<Event = E>>(
        &self,
        connection: &mut PgConnection,
        shared: &Shared<P>,
        advance: &Advance,
        halt: Option<&str>,
        changed: &[(Block, Bits)],
    ) -> Result<(), Failure> {
        let (origin, owner) = (&self.plan.batch.origin, &shared.settings.owner);
        let finished =
            batch::finish_and_commit(connection, self.group, origin, advance, owner, halt, changed).await;
        finished.map_err(|unfinished| match unfinished {
            // The row is locked, so this is a bug or a rule of the database's owner; nothing is written.
            Unfinished::Moved => Failure::NoProgress,
            Unfinished::Before(error) => engine("advance")(error),
            Unfinished::Commit(error) if is_refused(&error) => Failure::Apply(error),
            Unfinished::Commit(error) => Failure::Commit(error),
        })
    }

    /// Locks the offset, then the keys of a strict projection, then blocks: releases lock in this order, too. Answers the
    /// partition's place; the rest is of use only if its offset is the expected one, or none is expected.
    async fn begin_and_lock<P: Projection<Event = E>>(
        &self,
        tx: &mut PgConnection,
        shared: &Shared<P>,
        memory: Memory<'_>,
        expected: Option<i64>,
    ) -> Result<(Place, Held), Failure> {
        let is_strict = shared.projection.ordering() == OrderingMode::Strict;
        let mut claims = Claims::default();
        if !is_strict {
            claims = memory.claims(self.identities(&BTreeSet::new()));
        }
        let origin = &self.plan.batch.origin;
        let locked = batch::begin_and_lock(tx, self.group, origin, claims.masks().keys());
        let (place, mut blocks) = locked.await.map_err(engine("fence"))?.ok_or(Failure::NoProgress)?;
        let mut order = Order::default();
        if is_strict && expected.is_none_or(|expected| expected == place.next_offset) {
            order = self.order(tx, shared).await?;
            claims = memory.claims(self.identities(&order.waiting));
            blocks = memory.lock(tx, &claims).await?;
        }
        Ok((place, Held { order, claims, blocks }))
    }

    /// What a consumer does that tells how far it is before it is there: wrong on purpose.
    async fn tell_first<P: Projection<Event = E>>(
        &self,
        connection: &mut PgConnection,
        shared: &Shared<P>,
    ) -> Result<(), Failure> {
        let (expected, next) = (self.part.span.expected, self.part.span.next);
        let told = Advance { expected, next, ..Advance::default() };
        self.finish(connection, shared, &told, None, &[]).await
    }

    /// Which events the span carries, without records that wait.
    fn identities(&self, waiting: &BTreeSet<usize>) -> impl Iterator<Item = (usize, Identity)> {
        let records = self.part.span.records.clone().filter(|index| !waiting.contains(index));
        records.filter_map(|index| match self.plan.fates[index] {
            Fate::Apply(identity) => Some((index, identity)),
            Fate::Skip | Fate::SkipUnknown | Fate::Reject(_) => None,
        })
    }

    /// Which records wait; the projection is strict. The keys of the span that are blocked stay locked, so that nothing is
    /// released while more of their records are set aside.
    async fn order<P: Projection<Event = E>>(
        &self,
        tx: &mut PgConnection,
        shared: &Shared<P>,
    ) -> Result<Order, Failure> {
        let topic = self.topic(shared);
        let is_any_blocked = blocked::has_keys(tx, topic).await.map_err(engine("read blocked keys"))?;
        if !is_any_blocked && !order::has_rejected(self.plan, &self.part.span) {
            return Ok(Order::default());
        }
        let keys = order::keys(self.plan, &self.part.span);
        let mut blocked = HashSet::new();
        if is_any_blocked && !is_sabotaged("inbox.nothing_waits") {
            let distinct = keys.values().copied().collect();
            blocked = blocked::lock_keys(tx, topic, &distinct).await.map_err(engine("lock blocked keys"))?;
        }
        Ok(order(self.plan, keys, &blocked))
    }

    fn topic<'a, P>(&'a self, shared: &'a Shared<P>) -> Topic<'a> {
        Topic { group: &shared.settings.kafka.group, name: &self.plan.batch.origin.topic }
    }

    /// Writes the letters of what was rejected and of what waits; answers how many.
    async fn write_dead_letters<P: Projection<Event = E>>(
        &self,
        tx: &mut PgConnection,
        shared: &Shared<P>,
        order: &Order,
    ) -> Result<usize, Failure> {
        let letters = self.letters(shared, order);
        let count = letters.len();
        if is_sabotaged("inbox.letters_are_handled") {
            let ids: BTreeSet<_> =
                letters.iter().filter_map(|letter| letter.row.event_id.as_ref()?.parse().ok()).collect();
            insert_ids(tx, self.group, &ids).await.map_err(engine("insert ids"))?;
        }
        if count == 0 {
            return Ok(0);
        }
        let topic = self.topic(shared);
        if !order.newly_blocked.is_empty() {
            blocked::insert_keys(tx, topic, &order.newly_blocked).await.map_err(engine("block keys"))?;
        }
        let ordered: Vec<_> =
            letters.iter().filter(|letter| letter.key_digest.is_some()).map(|letter| letter.row.id).collect();
        insert_dead_letters(tx, letters).await.map_err(engine("insert dead letters"))?;
        if !ordered.is_empty() {
            // A letter that was met before, because the offset was set back, may have been the one that all others wait for.
            blocked::release_keys_of(tx, &ordered).await.map_err(engine("release keys"))?;
        }
        Ok(count)
    }

    fn letters<P: Projection<Event = E>>(&self, shared: &Shared<P>, order: &Order) -> Vec<NewLetter> {
        let plan = &self.plan;
        let waits = Rejection::new(order::BLOCKED, "waits behind an earlier dead letter of its key");
        let letter = |index: usize| {
            let is_waiting = order.waiting.contains(&index);
            let rejection = match &plan.fates[index] {
                _ if is_waiting => &waits,
                Fate::Reject(rejection) => rejection,
                Fate::Apply(_) | Fate::Skip | Fate::SkipUnknown => return None,
            };
            let record = plan.batch.get(index)?;
            let row = dead_letter::row(&shared.settings.kafka.group, &plan.batch.origin, &record, rejection);
            let key_digest = order.keys.get(&index).copied();
            Some(NewLetter { row, key_digest, is_waiting })
        };
        self.part.span.records.clone().filter_map(letter).collect()
    }

    /// Why no more is to be set aside, if too much waits already.
    async fn crowding<P: Projection<Event = E>>(
        &self,
        tx: &mut PgConnection,
        shared: &Shared<P>,
        order: &Order,
    ) -> Result<Option<String>, Failure> {
        if order.waiting.is_empty() && order.newly_blocked.is_empty() {
            return Ok(None);
        }
        let keys = order.waiting.iter().filter_map(|index| order.keys.get(index).copied()).collect();
        let limits = shared.settings.blocked;
        let crowd = blocked::measure(tx, self.topic(shared), &keys, limits)
            .await
            .map_err(engine("measure blocked keys"))?;
        Ok(limits.crowded(crowd.keys, crowd.letters))
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

/// Writes the effect of new events. A panic is contained.
pub(crate) async fn apply<P: Projection>(
    tx: &mut PgConnection,
    shared: &Shared<P>,
    origin: &TopicPartition,
    events: &[P::Event],
) -> Result<(), Failure> {
    if events.is_empty() {
        return Ok(());
    }
    let topic = shared.short_topic(&origin.topic);
    let applying = shared.projection.apply(tx, topic, origin.partition, events);
    match AssertUnwindSafe(applying).catch_unwind().await {
        Ok(applied) => applied.map_err(Failure::Apply),
        Err(panic) => Err(Failure::Panic(panic_text(panic.as_ref()))),
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
