//! The database in miniature: transactions with locks and ids, snapshots, ticks, and the table of shards.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use super::super::window::{Position, Snapshot};
use super::Violation;
use super::broker::Broker;

/// Keys on which writers serialise.
pub(super) const KEYS: usize = 4;
/// Shards; fewer than keys, so that one shard has two.
pub(super) const SHARDS: usize = 3;
/// How long a lease lasts, on the server's clock.
const LEASE: u64 = 6;

/// A row of `outbox.event`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) txid: u64,
    pub(super) key: usize,
    /// The how-manieth change of its key it tells of: the commit order.
    pub(super) number: u64,
}

impl Row {
    fn shard(self) -> usize {
        self.key % SHARDS
    }
}

/// A transaction that has not ended.
#[derive(Debug, Default)]
struct Transaction {
    /// Assigned by its first write, which may be to another table, long before it has any lock.
    txid: Option<u64>,
    rows: Vec<Row>,
    locks: Vec<usize>,
    /// A prepared transaction does nothing more until it is resolved.
    is_prepared: bool,
}

/// A row of `outbox.shard`.
#[derive(Debug)]
pub(super) struct Shard {
    owner: Option<usize>,
    epoch: i64,
    lease_until: u64,
    pub(super) position: Position,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) now: u64,
    next_txid: u64,
    latest_completed: u64,
    next_id: i64,
    open: Vec<Transaction>,
    /// Locks of transactions that are out of the running set already: the order in which PostgreSQL ends one.
    releasing: Vec<Vec<usize>>,
    is_locked: [bool; KEYS],
    /// Committed changes of each key.
    pub(super) changes: [u64; KEYS],
    pub(super) rows: Vec<Row>,
    ticks: VecDeque<Arc<Snapshot>>,
    /// A tick that is taken and not yet committed.
    tick_under_way: Option<Arc<Snapshot>>,
    pub(super) shards: Vec<Shard>,
}

impl Server {
    pub(super) fn new() -> Self {
        let mut server = Self {
            now: 0,
            next_txid: 5,
            latest_completed: 4,
            next_id: 1,
            open: Vec::new(),
            releasing: Vec::new(),
            is_locked: [false; KEYS],
            changes: [0; KEYS],
            rows: Vec::new(),
            ticks: VecDeque::new(),
            tick_under_way: None,
            shards: Vec::new(),
        };
        let position = Position::at(server.snapshot());
        server.shards = (0..SHARDS)
            .map(|_| Shard { owner: None, epoch: 0, lease_until: 0, position: position.clone() })
            .collect();
        server
    }

    pub(super) fn open_transactions(&self) -> usize {
        self.open.len()
    }

    /// A new transaction; `writes_first` to a table without a lock, so that its id is older than its locks.
    pub(super) fn begin(&mut self, writes_first: bool) {
        let txid = writes_first.then(|| self.assign_txid());
        self.open.push(Transaction { txid, ..Transaction::default() });
    }

    fn assign_txid(&mut self) -> u64 {
        self.next_txid += 1;
        self.next_txid - 1
    }

    /// Locks the key, counts it up, and appends its event. A transaction that finds the lock held waits: it does nothing
    /// now, and its id is drawn when it has the lock.
    pub(super) fn append(&mut self, transaction: usize, key: usize) {
        let next_txid = self.next_txid;
        let Some(writer) = self.open.get_mut(transaction) else { return };
        if writer.is_prepared {
            return;
        }
        if !writer.locks.contains(&key) {
            if self.is_locked[key] {
                return;
            }
            self.is_locked[key] = true;
            writer.locks.push(key);
        }
        let txid = *writer.txid.get_or_insert(next_txid);
        self.next_txid = self.next_txid.max(txid + 1);
        let own = writer.rows.iter().filter(|row| row.key == key).count();
        let number = self.changes[key] + u64::try_from(own).unwrap() + 1;
        writer.rows.push(Row { id: self.next_id, txid, key, number });
        self.next_id += 1;
    }

    /// Rolls the last append back to a savepoint; a lock that it took goes with it.
    pub(super) fn roll_back_to_savepoint(&mut self, transaction: usize) {
        let Some(writer) = self.open.get_mut(transaction).filter(|writer| !writer.is_prepared) else {
            return;
        };
        let Some(row) = writer.rows.pop() else { return };
        if writer.rows.iter().all(|other| other.key != row.key) {
            writer.locks.retain(|key| *key != row.key);
            self.is_locked[row.key] = false;
        }
    }

    pub(super) fn prepare(&mut self, transaction: usize) {
        if let Some(writer) = self.open.get_mut(transaction) {
            writer.is_prepared = true;
        }
    }

    pub(super) fn is_prepared(&self, transaction: usize) -> bool {
        self.open.get(transaction).is_some_and(|writer| writer.is_prepared)
    }

    /// Ends a transaction: it leaves the running set now, and its locks are released by a later step.
    pub(super) fn end(&mut self, transaction: usize, commits: bool) {
        if transaction >= self.open.len() {
            return;
        }
        let ended = self.open.swap_remove(transaction);
        if let Some(txid) = ended.txid {
            self.latest_completed = self.latest_completed.max(txid);
        }
        if commits {
            for row in &ended.rows {
                self.changes[row.key] = row.number;
            }
            self.rows.extend(ended.rows);
        }
        if !ended.locks.is_empty() {
            self.releasing.push(ended.locks);
        }
    }

    /// Releases the locks of the transaction that ended first.
    pub(super) fn release_locks(&mut self) {
        if !self.releasing.is_empty() {
            for key in self.releasing.remove(0) {
                self.is_locked[key] = false;
            }
        }
    }

    /// What `pg_current_snapshot()` says: `xmax` is one behind the latest transaction that has ended.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        let xmax = self.latest_completed + 1;
        let mut running: Vec<u64> =
            self.open.iter().filter_map(|writer| writer.txid).filter(|txid| *txid < xmax).collect();
        running.sort_unstable();
        let xmin = running.first().copied().unwrap_or(xmax);
        let running: Vec<String> = running.iter().map(u64::to_string).collect();
        Arc::new(format!("{xmin}:{xmax}:{}", running.join(",")).parse().unwrap())
    }

    /// Takes a tick, or commits the one that was taken: one at a time, as under the advisory lock.
    pub(super) fn tick(&mut self) {
        match self.tick_under_way.take() {
            None => self.tick_under_way = Some(self.snapshot()),
            Some(tick) => {
                self.ticks.push_back(tick);
                let txid = self.assign_txid();
                self.latest_completed = self.latest_completed.max(txid);
            }
        }
    }

    /// As `store::tick::prune_ticks`.
    pub(super) fn prune_ticks(&mut self) {
        let behind = self.shards.iter().map(|shard| shard.position.at.xmax()).min().unwrap_or(0);
        while self.ticks.len() > 1 && self.ticks[0].xmax() <= behind {
            self.ticks.pop_front();
        }
    }

    /// As `store::window::load_next_end`; answers also whether it is a tick.
    pub(super) fn next_end(&self, position: &Snapshot) -> (Arc<Snapshot>, bool) {
        let tick = self.ticks.iter().find(|tick| tick.xmax() > position.xmax());
        tick.map_or_else(|| (self.snapshot(), false), |tick| (Arc::clone(tick), true))
    }

    /// As the statement in `store::window`.
    pub(super) fn window(&self, from: &Snapshot, end: &Snapshot, shards: &[i16], after_id: i64) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.iter().copied().filter(|row| row.id > after_id).collect();
        rows.retain(|row| {
            let began_after = row.txid >= from.xmax() && row.txid < end.xmax();
            (began_after || from.running().contains(&row.txid))
                && shards.contains(&number_of(row.shard()))
                && end.sees(row.txid)
        });
        rows.sort_unstable_by_key(|row| row.id);
        rows
    }

    /// Claims those of `wanted` that are free, expired, or the owner's own; answers the new epochs.
    pub(super) fn claim(
        &mut self,
        owner: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<(i16, i64, Position)> {
        let now = self.now;
        let claimable = self.shards.iter_mut().enumerate().filter(|(shard, row)| {
            wanted(*shard) && (row.owner.is_none_or(|other| other == owner) || row.lease_until <= now)
        });
        claimable
            .map(|(shard, row)| {
                row.owner = Some(owner);
                row.epoch += 1;
                row.lease_until = now + LEASE;
                (number_of(shard), row.epoch, row.position.clone())
            })
            .collect()
    }

    /// As `store::shard::count_claimable`.
    pub(super) fn has_claimable(&self, owner: usize) -> bool {
        self.shards
            .iter()
            .any(|row| row.owner.is_none_or(|other| other != owner && row.lease_until <= self.now))
    }

    /// Prolongs or gives back a lease; answers whether the shard is still owned under this epoch.
    pub(super) fn renew(&mut self, shard: i16, epoch: i64, gives_back: bool) -> bool {
        let until = if gives_back { self.now } else { self.now + LEASE };
        let row = &mut self.shards[index_of(shard)];
        let owned = row.epoch == epoch;
        if owned {
            row.lease_until = until;
        }
        owned
    }

    /// Moves the position of one shard, if it is owned under this epoch or `forced`; answers whether it was moved.
    ///
    /// The judge of every position: whatever it is behind of must be in the log, and it never moves back.
    pub(super) fn move_position(
        &mut self,
        shard: i16,
        epoch: i64,
        position: &Position,
        forced: bool,
        broker: &Broker,
    ) -> Result<bool, Violation> {
        let index = index_of(shard);
        if self.shards[index].epoch != epoch && !forced {
            return Ok(false);
        }
        if place(position, &self.shards[index].position) == Ordering::Less {
            return Err(Violation::PositionMovedBack);
        }
        let is_behind = |row: &Row| {
            let partial = position.partial.as_ref();
            position.at.sees(row.txid)
                || partial.is_some_and(|partial| partial.end.sees(row.txid) && row.id <= partial.last_id)
        };
        if self.rows.iter().any(|row| !broker.has(row) && number_of(row.shard()) == shard && is_behind(row)) {
            return Err(Violation::PositionPassedUnpublished);
        }
        self.shards[index].position = position.clone();
        Ok(true)
    }

    /// Whether every shard's position sees everything.
    pub(super) fn is_drained(&self) -> bool {
        let now = self.snapshot();
        self.shards.iter().all(|shard| shard.position.at == now && shard.position.partial.is_none())
    }
}

/// The order of two positions of one shard.
fn place(left: &Position, right: &Position) -> Ordering {
    let last_id = |position: &Position| position.partial.as_ref().map(|partial| partial.last_id);
    left.at.order(&right.at).then_with(|| last_id(left).cmp(&last_id(right)))
}

fn number_of(shard: usize) -> i16 {
    i16::try_from(shard).unwrap()
}

fn index_of(shard: i16) -> usize {
    usize::try_from(shard).unwrap()
}
