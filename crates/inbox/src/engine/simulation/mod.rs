//! Members of a group with real boards, over a miniature of the log, the database, the group and the clock.
//!
//! A seed decides everything. `INBOX_SIMULATION_SEED=N` replays one, `INBOX_SIMULATION_SEEDS=N` runs more of them.

mod dice;
mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_client::{Start, TopicPartition};
use tokio::time::Instant;

use super::board::{Board, Output, Ticket, Verdict};
use dice::Dice;

const SEEDS: u64 = 100_000;
const PARTITIONS: usize = 3;
const MEMBERS: usize = 3;
const WORKERS: usize = 2;
/// Steps with faults, before the system is left alone to come to rest.
const STEPS: u64 = 60;
/// Rounds in which it must come to rest.
const QUIET_ROUNDS: usize = 2_000;
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
}

#[derive(Debug, Clone)]
struct Batch {
    partition: usize,
    generation: u64,
    expected: i64,
    next: i64,
    is_in_doubt: bool,
}

/// What the poll thread knows of a partition.
struct Lane {
    generation: u64,
    next: i64,
    is_outstanding: bool,
}

struct Member {
    board: Board<Batch>,
    lanes: BTreeMap<usize, Lane>,
    work: Vec<(Ticket, Batch)>,
    aborted: BTreeSet<Ticket>,
    /// Partitions that it lost and was not told about yet.
    losses: Vec<usize>,
}

impl Member {
    fn new() -> Self {
        Self {
            board: Board::new(),
            lanes: BTreeMap::new(),
            work: Vec::new(),
            aborted: BTreeSet::new(),
            losses: Vec::new(),
        }
    }
}

struct World {
    dice: Dice,
    without: Without,
    now: Instant,
    origins: Vec<TopicPartition>,
    /// Events by offset; some come twice, also in another partition.
    logs: Vec<Vec<u32>>,
    stored: Vec<i64>,
    handled: BTreeSet<u32>,
    effects: BTreeMap<u32, u32>,
    members: Vec<Member>,
    owners: Vec<Option<usize>>,
    /// The next owner of a partition that is being given back, by rebalance.
    moves: BTreeMap<u64, (usize, usize)>,
    rebalances: u64,
    violation: Option<String>,
}

impl World {
    fn new(seed: u64, without: Without) -> Self {
        let mut dice = Dice(seed);
        let origins = (0..PARTITIONS)
            .map(|number| TopicPartition { topic: "t".into(), partition: i32::try_from(number).unwrap() })
            .collect();
        let logs = (0..PARTITIONS)
            .map(|_| (0..dice.below(12)).map(|_| u32::try_from(dice.below(30)).unwrap()).collect())
            .collect();
        Self {
            dice,
            without,
            now: Instant::now(),
            origins,
            logs,
            stored: vec![0; PARTITIONS],
            handled: BTreeSet::new(),
            effects: BTreeMap::new(),
            members: (0..MEMBERS).map(|_| Member::new()).collect(),
            owners: vec![None; PARTITIONS],
            moves: BTreeMap::new(),
            rebalances: 0,
            violation: None,
        }
    }

    fn run(mut self) -> Result<(), String> {
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
        let ends: Vec<usize> = self.logs.iter().map(Vec::len).collect();
        let stored: Vec<usize> = self.stored.iter().map(|next| usize::try_from(*next).unwrap()).collect();
        if stored != ends {
            return Err(format!("stuck at {stored:?} of {ends:?}"));
        }
        let events: BTreeSet<u32> = self.logs.iter().flatten().copied().collect();
        match events.iter().find(|event| self.effects.get(event) != Some(&1)) {
            Some(event) => Err(format!("event {event} had its effect {:?} times", self.effects.get(event))),
            None => Ok(()),
        }
    }

    fn is_at_rest(&self) -> bool {
        let is_read =
            self.stored.iter().zip(&self.logs).all(|(next, log)| usize::try_from(*next) == Ok(log.len()));
        is_read && self.members.iter().all(|member| member.work.is_empty())
    }

    fn step(&mut self) {
        let member = self.dice.below(MEMBERS);
        match self.dice.below(16) {
            0..=3 => self.deliver(member),
            4..=6 => self.dispatch(member),
            7..=10 => self.work(member, true),
            11 => self.pass(),
            12 => self.revoke(),
            13 => self.lose(),
            14 => self.tell_losses(member),
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
        }
        self.pass();
    }

    fn assign(&mut self, partition: usize, member: usize) {
        // It may have had, and lost, the partition before.
        self.tell_losses(member);
        self.owners[partition] = Some(member);
        let start =
            self.members[member].board.assigned(self.origins[partition].clone(), self.stored[partition]);
        let Start { offset, generation, .. } = start;
        let lane = Lane { generation, next: offset, is_outstanding: false };
        self.members[member].lanes.insert(partition, lane);
    }

    fn deliver(&mut self, member: usize) {
        let Member { lanes, board, .. } = &mut self.members[member];
        let count = lanes.len();
        if count == 0 {
            return;
        }
        let chosen = self.dice.below(count);
        let Some((partition, lane)) = lanes.iter_mut().nth(chosen) else { return };
        let end = i64::try_from(self.logs[*partition].len()).unwrap();
        if lane.is_outstanding || lane.next >= end {
            return;
        }
        let next = (lane.next + 1 + i64::try_from(self.dice.below(4)).unwrap()).min(end);
        let origin = &self.origins[*partition];
        let Some(expected) = board.wants(origin, lane.generation) else { return };
        if expected != lane.next {
            self.violation.get_or_insert(format!("read at {} and expected {expected}", lane.next));
        }
        let batch =
            Batch { partition: *partition, generation: lane.generation, expected, next, is_in_doubt: false };
        board.batch(origin, batch);
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

    fn work(&mut self, member: usize, with_faults: bool) {
        let count = self.members[member].work.len();
        if count == 0 {
            return;
        }
        let chosen = self.dice.below(count);
        let (ticket, mut batch) = self.members[member].work.swap_remove(chosen);
        let is_aborted = self.members[member].aborted.remove(&ticket);
        let fault = if with_faults { self.dice.below(8) } else { usize::MAX };
        if fault == 0 {
            self.half_do(&batch);
        }
        let verdict = match fault {
            0 => Verdict::Retry("database is away".to_owned()),
            _ => self.transact(&batch),
        };
        let is_unanswered = fault == 1 && matches!(verdict, Verdict::Done { .. });
        let board = &mut self.members[member].board;
        if is_aborted || fault == 2 {
            board.vanished(ticket);
        } else if is_unanswered {
            batch.is_in_doubt = true;
            board.judged(ticket, batch, Verdict::Retry("commit was not answered".to_owned()), self.now);
        } else {
            board.judged(ticket, batch, verdict, self.now);
        }
        self.act(member);
    }

    /// What a rolled back transaction leaves: nothing, unless its parts are not one transaction.
    fn half_do(&mut self, batch: &Batch) {
        if self.without == Without::OneTransaction {
            let events = self.events(batch);
            self.handled.extend(events);
        }
    }

    fn transact(&mut self, batch: &Batch) -> Verdict {
        let stored = self.stored[batch.partition];
        if stored != batch.expected {
            if batch.is_in_doubt && stored == batch.next {
                return Verdict::Done { next: batch.next };
            }
            if self.without != Without::Fence {
                return Verdict::Fenced { stored };
            }
            self.violation.get_or_insert(format!("offset moved from {stored} as if from {}", batch.expected));
        }
        for event in self.events(batch) {
            if self.handled.insert(event) || self.without == Without::EventHandled {
                *self.effects.entry(event).or_default() += 1;
            }
        }
        self.stored[batch.partition] = batch.next;
        Verdict::Done { next: batch.next }
    }

    fn events(&self, batch: &Batch) -> Vec<u32> {
        let place = |offset: i64| usize::try_from(offset).unwrap();
        self.logs[batch.partition][place(batch.expected)..place(batch.next)].to_vec()
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
                Output::Seek(Start { origin, offset, generation }) => {
                    let partition = usize::try_from(origin.partition).unwrap();
                    if let Some(lane) = self.members[member].lanes.get_mut(&partition) {
                        *lane = Lane { generation, next: offset, is_outstanding: false };
                    }
                }
                Output::Abort(ticket) => {
                    self.members[member].aborted.insert(ticket);
                }
                Output::Unassign { rebalance } => self.released(member, rebalance),
                Output::Stopped { origin, .. } => {
                    self.violation.get_or_insert(format!("{origin} stopped"));
                }
                Output::Commit { .. } | Output::Fenced { .. } | Output::Retrying { .. } => {}
            }
        }
    }

    fn lane(&mut self, member: usize, origin: &TopicPartition, generation: u64) -> Option<&mut Lane> {
        let partition = usize::try_from(origin.partition).unwrap();
        self.members[member].lanes.get_mut(&partition).filter(|lane| lane.generation == generation)
    }

    fn released(&mut self, member: usize, rebalance: u64) {
        let Some((partition, to)) = self.moves.remove(&rebalance) else { return };
        let Member { work, aborted, .. } = &self.members[member];
        if work.iter().any(|(ticket, batch)| batch.partition == partition && !aborted.contains(ticket)) {
            self.violation.get_or_insert(format!("partition {partition} was given back under work"));
        }
        self.assign(partition, to);
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The first seed below `seeds` that goes wrong.
fn first_violation(seeds: u64, without: Without) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| Some((seed, World::new(seed, without).run().err()?)))
}

#[test]
fn every_event_has_its_effect_once_whatever_happens_to_the_members() {
    if let Some(seed) = variable("INBOX_SIMULATION_SEED") {
        World::new(seed, Without::Nothing).run().unwrap();
        return;
    }
    let seeds = variable("INBOX_SIMULATION_SEEDS").unwrap_or(SEEDS);
    if let Some((seed, violation)) = first_violation(seeds, Without::Nothing) {
        panic!("{violation}; replay it with INBOX_SIMULATION_SEED={seed}");
    }
}

#[test]
fn the_simulation_notices_when_a_guard_is_missing() {
    for without in [Without::Fence, Without::EventHandled, Without::OneTransaction] {
        assert!(first_violation(1_000, without).is_some(), "{without:?} is not missed");
    }
}
