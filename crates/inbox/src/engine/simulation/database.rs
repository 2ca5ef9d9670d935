//! Miniatures of a log and of the database: what a transaction does to the tables, and the sums that hold after each.

use std::collections::BTreeSet;
use std::ops::Range;

use super::dice::Dice;
use super::{PARTITIONS, Without};
use crate::engine::spans::{Part, Position};

/// Different events.
pub(super) const EVENTS: usize = 30;
/// Longest log.
const RECORDS_MAX: usize = 15;

/// What is wrong with an event, in each of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    /// The database refuses a transaction in which it is new.
    Poison,
    /// It cannot be decoded.
    Unreadable,
    /// A transaction finds it older than what is remembered.
    Outside,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) offset: i64,
    /// Some come twice, also in another partition.
    pub(super) event: usize,
    pub(super) kind: Kind,
}

/// What befalls a worker in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Nothing,
    /// The database is away before anything has begun.
    Away,
    /// Nothing is heard before the new events are known, and for too long.
    Silent,
    /// The commit is not answered, and does not get through.
    Undone,
    /// The commit is not answered, and gets through.
    Done,
    /// The worker is gone after it.
    Panic,
}

/// What a transaction came to, as far as its worker can tell.
#[derive(Debug)]
pub(super) enum Ended {
    /// With the records that were new.
    Committed(Vec<usize>),
    HadCommitted {
        is_halted: bool,
    },
    Fenced(i64),
    Halted,
    /// Because of these records, which are older than what is remembered.
    Rejected(Vec<usize>),
    /// With the records that were new.
    Refused(Vec<usize>),
    /// With the records that were new, if it came so far.
    Unanswered(Vec<usize>),
    Away,
}

/// A transaction to be made.
#[derive(Clone, Copy)]
pub(super) struct Transaction<'a> {
    pub(super) partition: usize,
    pub(super) log: &'a [Record],
    pub(super) part: &'a Part,
    pub(super) rejected: &'a BTreeSet<usize>,
}

impl Transaction<'_> {
    fn records(&self) -> Range<usize> {
        self.part.span.records.clone()
    }

    /// Records that are rejected.
    fn letters(&self) -> impl Iterator<Item = usize> {
        self.records().filter(|index| self.rejected.contains(index))
    }
}

/// A partition's row.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Progress {
    pub(super) stored: i64,
    pub(super) is_halted: bool,
    handled: usize,
    duplicates: usize,
    /// It was moved while it was halted.
    is_halt_lost: bool,
}

pub(super) struct Database {
    without: Without,
    pub(super) progress: [Progress; PARTITIONS],
    /// By event.
    pub(super) handled: [bool; EVENTS],
    pub(super) effects: [u32; EVENTS],
    /// Rows of dead letters, by partition and record.
    pub(super) letters: [[usize; RECORDS_MAX]; PARTITIONS],
}

impl Database {
    pub(super) fn new(without: Without) -> Self {
        Self {
            without,
            progress: Default::default(),
            handled: [false; EVENTS],
            effects: [0; EVENTS],
            letters: [[0; RECORDS_MAX]; PARTITIONS],
        }
    }

    /// Does what production's transaction does, in its order.
    pub(super) fn transact(&mut self, tx: Transaction<'_>, fault: Fault) -> Ended {
        if fault == Fault::Away {
            return Ended::Away;
        }
        let Progress { stored, is_halted, .. } = self.progress[tx.partition];
        match tx.part.judge(stored, is_halted && self.without != Without::HaltInFence) {
            Position::HadCommitted => return Ended::HadCommitted { is_halted },
            Position::Halted => return Ended::Halted,
            Position::Fenced if self.without != Without::Fence => return Ended::Fenced(stored),
            Position::Fenced | Position::Expected => {}
        }
        if fault == Fault::Silent {
            return Ended::Unanswered(Vec::new());
        }
        let is_outside = |index: &usize| tx.log[*index].kind == Kind::Outside && !tx.rejected.contains(index);
        let outside: Vec<usize> = tx.records().filter(is_outside).collect();
        if !outside.is_empty() {
            return Ended::Rejected(outside);
        }
        let fresh = self.fresh(tx);
        let is_refused = fresh.iter().any(|index| tx.log[*index].kind == Kind::Poison);
        if is_refused || fault == Fault::Undone {
            self.roll_back(tx, &fresh);
            return if is_refused { Ended::Refused(fresh) } else { Ended::Unanswered(fresh) };
        }
        self.commit(tx, &fresh);
        if fault == Fault::Done { Ended::Unanswered(fresh) } else { Ended::Committed(fresh) }
    }

    /// Records whose events are not handled yet, nor carried by an earlier record of the part.
    fn fresh(&self, tx: Transaction<'_>) -> Vec<usize> {
        let event = |index: usize| tx.log[index].event;
        let mut fresh: Vec<usize> = Vec::new();
        for index in tx.records().filter(|index| !tx.rejected.contains(index)) {
            let is_first = fresh.iter().all(|other| event(*other) != event(index));
            if is_first && !self.handled[event(index)] {
                fresh.push(index);
            }
        }
        fresh
    }

    /// What is left then: nothing, unless the parts of it are not one transaction.
    fn roll_back(&mut self, tx: Transaction<'_>, fresh: &[usize]) {
        if self.without == Without::OneTransaction {
            fresh.iter().for_each(|index| self.handled[tx.log[*index].event] = true);
        }
        if self.without == Without::LetterInTransaction {
            tx.letters().for_each(|index| self.letters[tx.partition][index] += 1);
        }
    }

    fn commit(&mut self, tx: Transaction<'_>, fresh: &[usize]) {
        for event in fresh.iter().map(|index| tx.log[*index].event) {
            self.effects[event] += 1;
            self.handled[event] = self.without != Without::EventHandled;
        }
        let mut letters = 0;
        for index in tx.letters() {
            letters += 1;
            self.letters[tx.partition][index] += 1;
            self.handled[tx.log[index].event] |= self.without == Without::LetterUnhandled;
        }
        let progress = &mut self.progress[tx.partition];
        progress.stored = tx.part.span.next;
        progress.is_halt_lost |= progress.is_halted;
        // The statement that moves the offset says both.
        progress.is_halted = tx.part.halt.is_some();
        progress.handled += fresh.len();
        progress.duplicates += tx.records().len() - fresh.len() - letters;
    }

    /// At any instant: each record below the stored offset is counted once, by what became of it, and nobody went on where an
    /// operator has to say so.
    pub(super) fn check(&self, partition: usize, log: &[Record]) -> Result<(), String> {
        let Progress { stored, handled, duplicates, is_halt_lost, .. } = self.progress[partition];
        if is_halt_lost {
            return Err(format!("partition {partition} was moved while it was halted"));
        }
        let passed = log.partition_point(|record| record.offset < stored);
        let letters: usize = self.letters[partition].iter().sum();
        if passed == handled + duplicates + letters {
            return Ok(());
        }
        Err(format!(
            "{passed} records passed are {handled} handled, {duplicates} duplicates, {letters} letters"
        ))
    }

    /// In the end: a good event had its effect once, and of another each record is one dead letter.
    pub(super) fn check_effects(&self, logs: &[Vec<Record>]) -> Result<(), String> {
        for (log, letters) in logs.iter().zip(&self.letters) {
            for (Record { offset, event, kind }, letters) in log.iter().zip(letters) {
                let (effects, is_handled) = (self.effects[*event], self.handled[*event]);
                let expected = if *kind == Kind::Good { (1, true, 0) } else { (0, false, 1) };
                if (effects, is_handled, *letters) != expected {
                    return Err(format!(
                        "{kind:?} event {event} at {offset}: {effects} effects, handled {is_handled}, {letters} letters"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A log in which some offsets are without records, as after compaction.
pub(super) fn log(dice: &mut Dice, wrong: [usize; 3]) -> Vec<Record> {
    let count = dice.below(RECORDS_MAX + 1);
    let mut next = 0;
    let record = |_| {
        let event = dice.below(EVENTS);
        let offset = next + i64::from(dice.one_in(8));
        next = offset + 1;
        Record { offset, event, kind: kind(event, wrong) }
    };
    (0..count).map(record).collect()
}

/// The first events are poison, unreadable and outside, so many of each.
fn kind(event: usize, [poison, unreadable, outside]: [usize; 3]) -> Kind {
    match event {
        _ if event < poison => Kind::Poison,
        _ if event < poison + unreadable => Kind::Unreadable,
        _ if event < poison + unreadable + outside => Kind::Outside,
        _ => Kind::Good,
    }
}
