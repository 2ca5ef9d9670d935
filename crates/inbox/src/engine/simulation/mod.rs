//! Members of a group with real boards and real spans, over a miniature of the log, the database, the group and the clock.
//!
//! A seed decides everything. `INBOX_SIMULATION_SEED=N` replays one, `INBOX_SIMULATION_SEEDS=N` runs more of them.

mod database;
mod dice;
mod faults;
mod member;
mod met;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::TopicPartition;
use tokio::time::Instant;

use super::board::Output;
use super::span::Span;
use crate::settings::FloodLimits;
use crate::stop_reason::StopReason;
use database::{Database, Progress, Record};
use dice::Dice;
use member::{Lane, Member};
use met::{Met, SITUATIONS};
use work::Batch;

const SEEDS: u64 = 100_000;
/// Seeds in which a missing guard must be noticed.
const CONTROL_SEEDS: u64 = 1_000;
const PARTITIONS: usize = 3;
const MEMBERS: usize = 3;
const WORKERS: usize = 2;
/// Steps with faults, before the system is left alone to come to rest.
const STEPS: u64 = 80;
/// Rounds in which it must come to rest.
const QUIET_ROUNDS: usize = 2_000;
/// Records of a batch.
const BATCH_MAX: usize = 8;
const GRACE: Duration = Duration::from_secs(5);

/// A guard that is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// A transaction does not look at the stored offset.
    Fence,
    /// Events are not remembered.
    EventHandled,
    /// An event is remembered although its transaction is rolled back.
    OneTransaction,
    /// A dead letter is written although its transaction is rolled back.
    LetterInTransaction,
    /// The event of a dead letter is remembered as handled.
    LetterUnhandled,
    /// A worker does not keep in mind that a commit was not answered.
    Doubt,
    /// A transaction does not look whether the partition is halted.
    HaltInFence,
}

struct World {
    dice: Dice,
    without: Without,
    limits: FloodLimits,
    now: Instant,
    origins: Vec<TopicPartition>,
    logs: Vec<Vec<Record>>,
    database: Database,
    members: Vec<Member>,
    owners: Vec<Option<usize>>,
    /// The next owner of a partition that is being given back, by rebalance.
    moves: BTreeMap<u64, (usize, usize)>,
    rebalances: u64,
    met: Met,
    violation: Option<String>,
}

impl World {
    fn new(seed: u64, without: Without) -> Self {
        let mut dice = Dice(seed);
        let origins = (0..PARTITIONS)
            .map(|number| TopicPartition { topic: "t".into(), partition: i32::try_from(number).unwrap() })
            .collect();
        let bounds = if dice.one_in(4) { [14, 6, 6] } else { [6, 3, 3] };
        let wrong = bounds.map(|bound| dice.below(bound));
        let [in_a_row_max, window_letters_max] = [[0, 0, 2, 3], [0, 0, 0, 4]].map(|max| max[dice.below(4)]);
        Self {
            without,
            limits: FloodLimits { in_a_row_max, window_records: 6, window_letters_max },
            now: Instant::now(),
            origins,
            logs: (0..PARTITIONS).map(|_| database::log(&mut dice, wrong)).collect(),
            dice,
            database: Database::new(without),
            members: (0..MEMBERS).map(|_| Member::new()).collect(),
            owners: vec![None; PARTITIONS],
            moves: BTreeMap::new(),
            rebalances: 0,
            met: Met::default(),
            violation: None,
        }
    }

    fn run(mut self) -> Result<Met, String> {
        for partition in 0..PARTITIONS {
            let member = self.dice.below(MEMBERS);
            self.assign(partition, member);
        }
        for _ in 0..STEPS {
            self.step();
        }
        for _ in 0..QUIET_ROUNDS {
            if self.is_at_rest() {
                break;
            }
            self.quiet_round();
        }
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        let ends: [i64; PARTITIONS] = std::array::from_fn(|partition| self.end(partition));
        let stored = self.database.progress.map(|progress| progress.stored);
        if stored != ends {
            return Err(format!("stuck at {stored:?} of {ends:?}"));
        }
        self.database.check_effects(&self.logs)?;
        Ok(self.met)
    }

    fn violated(&mut self, text: String) {
        self.violation.get_or_insert(text);
    }

    /// One past the last offset.
    fn end(&self, partition: usize) -> i64 {
        self.logs[partition].last().map_or(0, |record| record.offset + 1)
    }

    fn is_at_rest(&self) -> bool {
        let is_read = |(partition, progress): (usize, &Progress)| {
            progress.stored == self.end(partition) && !progress.is_halted
        };
        let is_idle = |member: &Member| member.work.is_empty() && member.asked_again.is_empty();
        self.database.progress.iter().enumerate().all(is_read) && self.members.iter().all(is_idle)
    }

    fn step(&mut self) {
        let member = self.dice.below(MEMBERS);
        match self.dice.below(26) {
            0..=5 => self.deliver(member),
            6..=9 => self.dispatch(member),
            10..=17 => {
                let mut members = (0..MEMBERS).map(|more| (member + more) % MEMBERS);
                let worker = members.find(|member| !self.members[*member].work.is_empty());
                self.work(worker.unwrap_or(member), true);
            }
            18..=19 => self.pass(),
            20 => self.revoke(),
            21 => self.lose(),
            22 => self.tell_losses(member),
            23 => self.tick(member),
            24 => {
                let partition = self.dice.below(PARTITIONS);
                self.resume(partition);
            }
            _ => {
                if self.dice.one_in(3) {
                    self.crash(member);
                }
            }
        }
    }

    /// Everybody does what is to be done, and nothing goes wrong.
    fn quiet_round(&mut self) {
        for member in 0..MEMBERS {
            self.tell_losses(member);
            self.deliver(member);
            self.dispatch(member);
            self.work(member, false);
            self.tick(member);
        }
        (0..PARTITIONS).for_each(|partition| self.resume(partition));
        self.pass();
    }

    fn assign(&mut self, partition: usize, member: usize) {
        // It may have had, and lost, the partition before.
        self.tell_losses(member);
        self.owners[partition] = Some(member);
        self.met.assigned_halted += u64::from(self.database.progress[partition].is_halted);
        self.begin(partition, member);
    }

    /// Reading begins, unless the partition is halted.
    fn begin(&mut self, partition: usize, member: usize) {
        let Progress { stored, is_halted, .. } = self.database.progress[partition];
        let origin = &self.origins[partition];
        let Member { board, lanes, asked_again, .. } = &mut self.members[member];
        if is_halted {
            board.assigned_stopped(origin, stored);
            asked_again.insert(partition);
        } else {
            lanes.insert(partition, Lane::new(&board.assigned(origin.clone(), stored)));
        }
    }

    fn deliver(&mut self, member: usize) {
        let Member { lanes, board, floods, .. } = &mut self.members[member];
        let count = lanes.len();
        if count == 0 {
            return;
        }
        let chosen = self.dice.below(count);
        let Some((partition, lane)) = lanes.iter_mut().nth(chosen) else { return };
        let log = &self.logs[*partition];
        let first = log.partition_point(|record| record.offset < lane.next);
        if lane.is_outstanding || first == log.len() {
            return;
        }
        let end = (first + 1 + self.dice.below(BATCH_MAX)).min(log.len());
        let origin = &self.origins[*partition];
        let Some(expected) = board.wants(origin, lane.generation) else { return };
        if expected != lane.next {
            self.violation.get_or_insert(format!("read at {} and expected {expected}", lane.next));
        }
        let next = log[end - 1].offset + 1;
        let span = Span { records: first..end, expected, next };
        let flood = floods[*partition].unwrap_or_default();
        board.batch(origin, Batch::new((*partition, lane.generation), log, span, flood, lane.in_a_row));
        lane.next = next;
        lane.is_outstanding = true;
    }

    fn dispatch(&mut self, member: usize) {
        let Member { board, work, aborted, .. } = &mut self.members[member];
        if work.len() >= WORKERS {
            return;
        }
        let Some((ticket, batch)) = board.next_job() else { return };
        let is_second = work.iter().any(|(other, working)| {
            (working.partition, working.generation) == (batch.partition, batch.generation)
                && !aborted.contains(other)
        });
        if is_second {
            self.violation.get_or_insert(format!("two batches of partition {} at once", batch.partition));
        }
        work.push((ticket, batch));
    }

    /// Does what a member's board has decided.
    fn act(&mut self, member: usize) {
        while let Some(output) = self.members[member].board.next_output() {
            match output {
                Output::Moved { origin, generation, .. } => {
                    if let Some(lane) = self.lane(member, &origin, generation) {
                        lane.is_outstanding = false;
                    }
                }
                Output::Seek(start) => {
                    let partition = number(&start.origin);
                    if let Some(lane) = self.members[member].lanes.get_mut(&partition) {
                        *lane = Lane::new(&start);
                    }
                }
                Output::Abort(ticket) => {
                    self.members[member].aborted.insert(ticket);
                }
                Output::Unassign { rebalance } => self.released(member, rebalance),
                Output::Stopped { origin, reason: StopReason::Halted(_) } => {
                    self.met.halted += 1;
                    self.members[member].forget(number(&origin));
                    self.members[member].asked_again.insert(number(&origin));
                }
                Output::Stopped { origin, reason } => self.violated(format!("{origin} stopped: {reason}")),
                Output::Commit { origin, next } => {
                    let stored = self.database.progress[number(&origin)].stored;
                    if next > stored {
                        self.violated(format!("{next} is told as committed, and {stored} is stored"));
                    }
                }
                Output::Fenced { .. } | Output::Retrying { .. } => {}
            }
        }
    }

    fn lane(&mut self, member: usize, origin: &TopicPartition, generation: u64) -> Option<&mut Lane> {
        self.members[member].lanes.get_mut(&number(origin)).filter(|lane| lane.generation == generation)
    }

    fn released(&mut self, member: usize, rebalance: u64) {
        let Some((partition, to)) = self.moves.remove(&rebalance) else { return };
        let Member { work, aborted, .. } = &self.members[member];
        if work.iter().any(|(ticket, batch)| batch.partition == partition && !aborted.contains(ticket)) {
            self.violated(format!("partition {partition} was given back under work"));
        }
        self.assign(partition, to);
    }
}

fn number(origin: &TopicPartition) -> usize {
    usize::try_from(origin.partition).unwrap()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_event_has_its_effect_once_whatever_happens_to_the_members() {
    if let Some(seed) = variable("INBOX_SIMULATION_SEED") {
        eprintln!("{:?}", World::new(seed, Without::Nothing).run().unwrap());
        return;
    }
    let seeds = variable("INBOX_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let mut sums = [0; SITUATIONS];
    for seed in 0..seeds {
        let met = World::new(seed, Without::Nothing).run().unwrap_or_else(|violation| {
            panic!("{violation}; replay it with INBOX_SIMULATION_SEED={seed}");
        });
        for (sum, (_, times)) in sums.iter_mut().zip(met.counts()) {
            *sum += times;
        }
    }
    for (times, (situation, _)) in sums.into_iter().zip(Met::default().counts()) {
        eprintln!("{seeds} seeds met {times} {situation}");
        assert!(times >= seeds / 500, "{seeds} seeds met only {times} {situation}: they prove little");
    }
}

#[test]
fn the_simulation_notices_when_a_guard_is_missing() {
    const SUMS: &[&str] = &["records passed"];
    for (without, seeds, expected) in [
        (Without::Fence, CONTROL_SEEDS, SUMS),
        (Without::EventHandled, CONTROL_SEEDS, &["Good event"]),
        (Without::OneTransaction, CONTROL_SEEDS, &["Good event", "Poison event", "told that has no effect"]),
        (Without::LetterInTransaction, CONTROL_SEEDS, SUMS),
        (Without::LetterUnhandled, CONTROL_SEEDS, &["Poison event", "Unreadable event", "Outside event"]),
        // The fence keeps effects exact; what follows a commit, an invalidation for example, is not done.
        (Without::Doubt, CONTROL_SEEDS, &["nobody else moved the offset"]),
        // It takes a commit that nobody heard of, a halt in it, and records behind it.
        (Without::HaltInFence, 20 * CONTROL_SEEDS, &["moved while it was halted"]),
    ] {
        let violations = (0..seeds).filter_map(|seed| World::new(seed, without).run().err());
        let (noticed, wrongly): (Vec<_>, Vec<_>) =
            violations.partition(|violation| expected.iter().any(|part| violation.contains(part)));
        eprintln!("{without:?}: {} of {seeds} seeds, as {:?}", noticed.len(), noticed.first());
        assert!(!noticed.is_empty(), "{without:?} is not missed");
        assert!(wrongly.is_empty(), "{without:?} is accused of {wrongly:?}");
    }
}
