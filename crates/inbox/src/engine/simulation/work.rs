//! Workers: a batch part by part, as `engine::work` does it.

use std::collections::BTreeSet;

use super::database::{Ended, Fault, Kind, Record, Transaction};
use super::{Without, World};
use crate::engine::board::{Ticket, Verdict};
use crate::engine::flood::Flood;
use crate::engine::span::Span;
use crate::engine::spans::{Blame, Part, Spans};
use crate::stop_reason::StopReason;

/// More transactions than the largest batch can need without faults.
const ATTEMPTS_MAX: usize = 100;

/// Consecutive records of a partition; spans have their indexes in the log.
pub(super) struct Batch {
    pub(super) partition: usize,
    pub(super) generation: u64,
    spans: Spans,
    /// Records that proved to be dead letters.
    rejected: BTreeSet<usize>,
    /// Where the offset was when it began, or where its own last commit left it.
    stored: i64,
    /// Events of that commit, if it was not answered.
    untold: Vec<usize>,
    /// It was not answered, and there is nobody to tell of it.
    is_passed_over: bool,
    /// Dead letters in a row at the end of what is committed, since reading began.
    pub(super) in_a_row: u32,
    pub(super) is_partly_committed: bool,
}

impl Batch {
    pub(super) fn new(
        (partition, generation): (usize, u64),
        log: &[Record],
        span: Span,
        flood: Flood,
        in_a_row: u32,
    ) -> Self {
        let is_unreadable = |index: &usize| log[*index].kind == Kind::Unreadable;
        Self {
            partition,
            generation,
            rejected: span.records.clone().filter(is_unreadable).collect(),
            stored: span.expected,
            spans: Spans::new(span, flood),
            is_passed_over: false,
            untold: Vec::new(),
            in_a_row,
            is_partly_committed: false,
        }
    }

    pub(super) fn flood(&self) -> Flood {
        self.spans.flood()
    }
}

impl World {
    pub(super) fn work(&mut self, member: usize, with_faults: bool) {
        let count = self.members[member].work.len();
        if count == 0 {
            return;
        }
        let chosen = self.dice.below(count);
        let (ticket, mut batch) = self.members[member].work.swap_remove(chosen);
        let is_aborted = self.members[member].aborted.remove(&ticket);
        for attempts in 1.. {
            let fault = if with_faults { self.fault() } else { Fault::Nothing };
            let verdict = self.attempt(&mut batch, fault);
            if attempts == ATTEMPTS_MAX {
                self.violated("a batch comes to no end".to_owned());
            }
            if is_aborted || fault == Fault::Panic || attempts == ATTEMPTS_MAX {
                self.met.lost_inside += u64::from(batch.is_partly_committed);
                self.members[member].board.vanished(ticket);
                break;
            }
            if let Some(verdict) = verdict {
                self.judged(member, ticket, batch, verdict);
                break;
            }
            if with_faults && self.dice.one_in(3) {
                self.members[member].work.push((ticket, batch));
                return;
            }
        }
        self.act(member);
    }

    fn fault(&mut self) -> Fault {
        match self.dice.below(10) {
            0 => Fault::Away,
            1 => Fault::Silent,
            2 => Fault::Undone,
            3 => Fault::Done,
            4 => Fault::Panic,
            _ => Fault::Nothing,
        }
    }

    fn judged(&mut self, member: usize, ticket: Ticket, batch: Batch, verdict: Verdict) {
        let member = &mut self.members[member];
        if let Verdict::Done { .. } = verdict {
            member.floods[batch.partition] = Some(batch.flood());
            if let Some(lane) = member.lanes.get_mut(&batch.partition)
                && lane.generation == batch.generation
            {
                lane.in_a_row = batch.in_a_row;
            }
        }
        member.board.judged(ticket, batch, verdict, self.now);
    }

    /// One transaction; a verdict if the work on the batch ends with it.
    pub(super) fn attempt(&mut self, batch: &mut Batch, fault: Fault) -> Option<Verdict> {
        let Batch { partition, spans, rejected, .. } = batch;
        let log = &self.logs[*partition];
        let offset_of = |index: usize| log.get(index).map(|record| record.offset);
        let Some(part) = spans.next_part(self.limits, |index| rejected.contains(&index), offset_of) else {
            return Some(Verdict::Done { next: spans.end() });
        };
        let tx = Transaction { partition: *partition, log, part: &part, rejected };
        let ended = self.database.transact(tx, fault);
        if let Err(text) = self.database.check(*partition, log) {
            self.violated(text);
        }
        self.follow(batch, &part, ended, fault)
    }

    fn follow(&mut self, batch: &mut Batch, part: &Part, ended: Ended, fault: Fault) -> Option<Verdict> {
        let Batch { partition, spans, rejected, .. } = batch;
        let (log, met) = (&self.logs[*partition], &mut self.met);
        let event = |index: &usize| log[*index].event;
        match ended {
            Ended::Committed(fresh) => {
                let told: Vec<usize> = fresh.iter().map(event).collect();
                self.committed(batch, part, &told, part.halt.is_some())
            }
            Ended::HadCommitted { is_halted } => {
                met.had_committed += 1;
                // What was rejected meanwhile has no event to tell any more.
                let told = spans.doubted().iter().filter(|index| !rejected.contains(index));
                let told: Vec<usize> = told.map(event).collect();
                self.committed(batch, part, &told, is_halted)
            }
            Ended::Halted => {
                met.kept_halted += 1;
                Some(Verdict::Halt { next: None, reason: StopReason::Halted("flood".to_owned()) })
            }
            Ended::Fenced(stored) => {
                met.fenced += 1;
                if stored == batch.stored && !batch.is_passed_over {
                    self.violated(format!("fenced at {stored}, where nobody else moved the offset"));
                }
                Some(Verdict::Fenced { stored })
            }
            Ended::Rejected(records) => {
                met.outside += 1;
                rejected.extend(records);
                None
            }
            Ended::Refused(fresh) => {
                let offset_of = |index: usize| log.get(index).map(|record| record.offset);
                match spans.refused(part, &fresh, offset_of) {
                    Blame::Halves => met.halved += 1,
                    Blame::Culprit(index) => {
                        met.culprits += 1;
                        rejected.insert(index);
                    }
                    Blame::Nobody => self.violated("a refused event is not blamed".to_owned()),
                }
                None
            }
            Ended::Unanswered(fresh) => {
                met.undone += u64::from(fault == Fault::Undone);
                if self.without != Without::Doubt {
                    spans.unanswered(part, &fresh);
                }
                if fault == Fault::Done {
                    batch.stored = part.span.next;
                    batch.is_passed_over = fresh.is_empty();
                    batch.untold = fresh.iter().map(event).collect();
                }
                Some(Verdict::Retry("commit was not answered".to_owned()))
            }
            Ended::Away => Some(Verdict::Retry("database is away".to_owned())),
        }
    }

    /// What follows a commit, with the events that the projection is told of.
    fn committed(
        &mut self,
        batch: &mut Batch,
        part: &Part,
        told: &[usize],
        is_halted: bool,
    ) -> Option<Verdict> {
        if told.iter().any(|event| self.database.effects[*event] == 0) {
            self.violated("an event is told that has no effect".to_owned());
        }
        if batch.untold.drain(..).any(|event| !told.contains(&event)) {
            self.violated("an event of a commit that was not answered is not told".to_owned());
        }
        batch.spans.committed(part);
        batch.stored = part.span.next;
        batch.is_passed_over = false;
        batch.is_partly_committed = true;
        for index in part.span.records.clone() {
            batch.in_a_row = if batch.rejected.contains(&index) { batch.in_a_row + 1 } else { 0 };
            let is_flood = batch.in_a_row > 0 && batch.in_a_row == self.limits.in_a_row_max;
            if is_flood && (part.halt.is_none() || index + 1 < part.span.records.end) {
                self.violated("a flood of dead letters halts nothing".to_owned());
            }
        }
        if part.halt.is_some() && batch.in_a_row == 0 {
            self.violated("a partition is halted behind a record that is no dead letter".to_owned());
        }
        let next = Some(part.span.next);
        is_halted.then(|| Verdict::Halt { next, reason: StopReason::Halted("flood".to_owned()) })
    }
}
