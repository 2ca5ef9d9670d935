//! A relay in miniature, around the real `Groups`, `Position` and `Prefix`. It does what `reader`, `tracker`, `keeper` and
//! `session` do, one small step at a time, and can be wrong in one chosen way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::prefix::{Contents, InFlightLimits, Prefix, Progress};
use super::super::window::{Groups, Partial, Position, Snapshot};
use super::broker::{Broker, PARTITIONS, partition_of};
use super::met::Met;
use super::server::{Row, Server};
use super::{Variant, Violation};

/// Events of a batch.
const BATCH: usize = 2;
/// Room for two or three batches.
const LIMITS: InFlightLimits = InFlightLimits { events_max: 5, bytes_max: 5 };

/// What one producer has accepted.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Not yet stored, in the order in which they were accepted, for each partition.
    unstored: [VecDeque<(usize, Row)>; PARTITIONS],
    /// Batches of records that are stored and not yet acknowledged.
    unacknowledged: Vec<usize>,
}

impl Wire {
    /// The broker stores the next record of a partition.
    pub(super) fn store(&mut self, partition: usize, broker: &mut Broker) -> Result<(), Violation> {
        if let Some((batch, row)) = self.unstored[partition].pop_front() {
            broker.store(row)?;
            self.unacknowledged.push(batch);
        }
        Ok(())
    }

    /// What a producer that dies leaves in the network: the first records of each partition, which may be stored at any
    /// later time, and of which nobody hears.
    pub(super) fn cut(mut self, kept: usize) -> Self {
        for partition in &mut self.unstored {
            partition.truncate(kept);
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unstored.iter().all(VecDeque::is_empty)
    }
}

/// A window that is being read.
#[derive(Debug)]
struct Window {
    from: Arc<Snapshot>,
    end: Arc<Snapshot>,
    shards: Arc<[i16]>,
    rows: VecDeque<Row>,
    last_id: i64,
    /// Number and events.
    batch: Option<(usize, usize)>,
}

/// From claiming shards to the first failure.
#[derive(Debug)]
pub(super) struct Session {
    epochs: BTreeMap<i16, i64>,
    groups: Groups,
    window: Option<Window>,
    prefix: Prefix,
    pub(super) wire: Wire,
    variant: Variant,
    /// Of sealed batches, for the variant that passes gaps; and what it takes for published.
    sealed: BTreeMap<usize, Progress>,
    beyond_gap: Vec<Progress>,
}

impl Session {
    pub(super) fn new(claimed: Vec<(i16, i64, Position)>, variant: Variant, met: &mut Met) -> Self {
        let epochs = claimed.iter().map(|(shard, epoch, _)| (*shard, *epoch)).collect();
        met.resumed_inside += u64::from(claimed.iter().any(|(_, _, position)| position.partial.is_some()));
        Self {
            epochs,
            groups: Groups::new(claimed.into_iter().map(|(shard, _, position)| (shard, position))),
            window: None,
            prefix: Prefix::default(),
            wire: Wire::default(),
            variant,
            sealed: BTreeMap::new(),
            beyond_gap: Vec::new(),
        }
    }

    /// Sends one row of the current window, begins the next window, or ends one; answers whether there was anything.
    pub(super) fn read(&mut self, server: &Server, met: &mut Met) -> bool {
        if self.window.is_none() {
            self.window = self.open_window(server, met);
        }
        let Some(mut window) = self.window.take() else { return false };
        let Some(row) = window.rows.front().copied() else {
            let position = Position::at(Arc::clone(&window.end));
            self.seal(&mut window, position);
            self.groups.advance(window.end);
            return true;
        };
        let has_room = window.batch.is_some() || self.prefix.has_room(BATCH, BATCH, LIMITS);
        if has_room {
            window.rows.pop_front();
            let (number, events) = window.batch.unwrap_or_else(|| (self.prefix.open(), 0));
            self.wire.unstored[partition_of(row.key)].push_back((number, row));
            window.last_id = row.id;
            window.batch = Some((number, events + 1));
            if events + 1 == BATCH {
                let position = window.inside();
                self.seal(&mut window, position);
            }
        } else {
            met.without_room += 1;
        }
        self.window = Some(window);
        has_room
    }

    fn open_window(&self, server: &Server, met: &mut Met) -> Option<Window> {
        let group = self.groups.hindmost()?.clone();
        let from = Arc::clone(&group.position.at);
        let (next, is_tick) = server.next_end(&from);
        let next =
            if self.variant == Variant::BelowXmin { below_xmin(&server.snapshot(), &from) } else { next };
        let end = self.groups.window_end(next);
        if end == from {
            return None;
        }
        met.ended_at_tick += u64::from(is_tick);
        met.for_some_shards += u64::from(group.shards.len() < self.epochs.len());
        let last_id = group.position.partial.map_or(i64::MIN, |partial| partial.last_id);
        let mut rows = server.window(&from, &end, &group.shards, last_id);
        match self.variant {
            Variant::IdAboveLast => {
                let last = server.rows.iter().filter(|row| from.sees(row.txid)).map(|row| row.id).max();
                rows.retain(|row| last.is_none_or(|last| row.id > last));
            }
            Variant::BelowXmin => rows.sort_by_key(|row| (row.txid, row.id)),
            Variant::Right | Variant::NoEpochCheck | Variant::PastGap | Variant::TruncatesEarly => {}
        }
        Some(Window { from, end, shards: group.shards, rows: rows.into(), last_id, batch: None })
    }

    /// Ends the open batch, or an empty one, with this position.
    fn seal(&mut self, window: &mut Window, position: Position) {
        let (number, events) = window.batch.take().unwrap_or_else(|| (self.prefix.open(), 0));
        let progress = Progress { shards: Arc::clone(&window.shards), position, taken_at: None };
        if self.variant == Variant::PastGap {
            self.sealed.insert(number, progress.clone());
            if events == 0 {
                self.take_past_gap(number);
            }
        }
        let contents = Contents { events, bytes: events, parked: Vec::new(), begun_at: None };
        self.prefix.seal(number, contents, progress);
    }

    /// Hears of one record, whichever comes.
    pub(super) fn acknowledge(&mut self, choice: usize) {
        let waiting = &mut self.wire.unacknowledged;
        if waiting.is_empty() {
            return;
        }
        let batch = waiting.swap_remove(choice % waiting.len());
        self.prefix.acknowledged(batch, 1);
        self.take_past_gap(batch);
    }

    fn take_past_gap(&mut self, batch: usize) {
        if let Some(progress) = self.sealed.remove(&batch) {
            self.sealed.retain(|number, _| *number > batch);
            self.beyond_gap.push(progress);
        }
    }

    /// Writes what is published as positions; answers whether the session still owns its shards.
    pub(super) fn write(
        &mut self,
        server: &mut Server,
        broker: &Broker,
        met: &mut Met,
    ) -> Result<bool, Violation> {
        let published = self.prefix.take_advance().progress;
        let beyond_gap = std::mem::take(&mut self.beyond_gap);
        let written = if self.variant == Variant::PastGap { beyond_gap } else { published };
        let forced = self.variant == Variant::NoEpochCheck;
        for progress in written {
            for shard in progress.shards.iter() {
                let epoch = self.epochs.get(shard).copied().unwrap_or_default();
                if !server.move_position(*shard, epoch, &progress.position, forced, broker)? {
                    met.refused_positions += 1;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Prolongs the leases; answers whether the session still owns its shards.
    pub(super) fn renew(&self, server: &mut Server, gives_back: bool) -> bool {
        let mut owned = true;
        for (shard, epoch) in &self.epochs {
            owned &= server.renew(*shard, *epoch, gives_back);
        }
        owned || self.variant == Variant::NoEpochCheck
    }

    /// Stops reading where nothing is half done, as on a shutdown.
    pub(super) fn stop_reading(&mut self) {
        if let Some(mut window) = self.window.take().filter(|window| window.batch.is_some()) {
            let position = window.inside();
            self.seal(&mut window, position);
        }
    }

    /// Stores and acknowledges everything that was accepted.
    pub(super) fn settle(&mut self, broker: &mut Broker) -> Result<(), Violation> {
        for partition in 0..PARTITIONS {
            while !self.wire.unstored[partition].is_empty() {
                self.wire.store(partition, broker)?;
            }
        }
        while !self.wire.unacknowledged.is_empty() {
            self.acknowledge(0);
        }
        Ok(())
    }
}

impl Window {
    fn inside(&self) -> Position {
        let partial = Partial { end: Arc::clone(&self.end), last_id: self.last_id };
        Position { at: Arc::clone(&self.from), partial: Some(partial) }
    }
}

/// The wrong bound: everything below the oldest transaction that runs, never behind where the reader is.
fn below_xmin(next: &Arc<Snapshot>, from: &Arc<Snapshot>) -> Arc<Snapshot> {
    let xmin = next.running().first().copied().unwrap_or_else(|| next.xmax());
    if xmin <= from.xmax() { Arc::clone(from) } else { Arc::new(format!("{xmin}:{xmin}:").parse().unwrap()) }
}
