//! Snapshots, positions and windows: which rows come next. Pure.
//!
//! Invariant: the windows of a shard, one after the other, hold every committed row exactly once; a row whose writer
//! waited for another's lock is never in an earlier window than that one's row.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Text that is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no snapshot")]
pub(crate) struct UnreadableSnapshot(String);

/// Which transactions had ended at a moment (`pg_snapshot`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Transactions below `xmax` that still ran, ascending.
    running: Vec<u64>,
}

impl Snapshot {
    /// Whether the transaction had ended, so that its rows are seen if it committed.
    #[cfg(test)]
    pub(crate) fn sees(&self, txid: u64) -> bool {
        txid < self.xmax && self.running.binary_search(&txid).is_err()
    }

    /// The order in time of snapshots of one server: transactions only ever begin and end, so of two snapshots with
    /// the same `xmax` the later one has fewer that run.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        self.xmax.cmp(&other.xmax).then_with(|| other.running.len().cmp(&self.running.len()))
    }

    /// Lowest transaction that had not begun.
    pub(crate) fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Transactions below `xmax` that still ran, ascending.
    pub(crate) fn running(&self) -> &[u64] {
        &self.running
    }
}

impl FromStr for Snapshot {
    type Err = UnreadableSnapshot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable = || UnreadableSnapshot(text.to_owned());
        let number = |part: &str| part.parse::<u64>().map_err(|_| unreadable());
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or_else(unreadable);
        let (xmin, xmax, list) = (number(part()?)?, number(part()?)?, part()?);
        let running =
            list.split(',').filter(|part| !part.is_empty()).map(number).collect::<Result<Vec<u64>, _>>()?;
        let ordered = running.is_sorted() && running.iter().all(|txid| (xmin..xmax).contains(txid));
        if xmin <= xmax && ordered { Ok(Self { xmin, xmax, running }) } else { Err(unreadable()) }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:", self.xmin, self.xmax)?;
        for (index, txid) in self.running.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{txid}")?;
        }
        Ok(())
    }
}

/// How far a shard is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// Every row that this snapshot sees is published.
    pub(crate) at: Arc<Snapshot>,
    /// The window that is partly published.
    pub(crate) partial: Option<Partial>,
}

/// A window that is published up to an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partial {
    /// Where the window ends.
    pub(crate) end: Arc<Snapshot>,
    /// The last id that is published.
    pub(crate) last_id: i64,
}

impl Position {
    /// Between two windows.
    pub(crate) fn at(at: Arc<Snapshot>) -> Self {
        Self { at, partial: None }
    }
}

/// Shards with one position, which are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Ascending.
    pub(crate) shards: Arc<[i16]>,
    pub(crate) position: Position,
}

/// All owned shards, grouped by position, the hindmost group first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    groups: Vec<Group>,
}

impl Groups {
    /// Groups the shards by equal position.
    pub(crate) fn new(shards: impl IntoIterator<Item = (i16, Position)>) -> Self {
        let mut groups = Self {
            groups: shards
                .into_iter()
                .map(|(shard, position)| Group { shards: Arc::from([shard]), position })
                .collect(),
        };
        groups.merge();
        groups
    }

    /// The group to read next: the one that is furthest behind.
    pub(crate) fn hindmost(&self) -> Option<&Group> {
        self.groups.first()
    }

    /// Where the hindmost group's window ends, when `next` is the first tick behind its position, or now.
    ///
    /// A window never passes a place where another group stands or will stand, so groups meet there and merge.
    pub(crate) fn window_end(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        let Some((hindmost, others)) = self.groups.split_first() else { return next };
        if let Some(partial) = &hindmost.position.partial {
            return Arc::clone(&partial.end);
        }
        let stops = others
            .iter()
            .flat_map(|group| {
                std::iter::once(&group.position.at)
                    .chain(group.position.partial.iter().map(|partial| &partial.end))
            })
            .filter(|stop| stop.order(&hindmost.position.at) == Ordering::Greater);
        stops.fold(next, |end, stop| if stop.order(&end) == Ordering::Less { Arc::clone(stop) } else { end })
    }

    /// The hindmost group has been read up to `end`.
    pub(crate) fn advance(&mut self, end: Arc<Snapshot>) {
        if let Some(hindmost) = self.groups.first_mut() {
            hindmost.position = Position::at(end);
        }
        self.merge();
    }

    fn merge(&mut self) {
        let last_id = |group: &Group| group.position.partial.as_ref().map(|partial| partial.last_id);
        self.groups.sort_by(|left, right| {
            left.position.at.order(&right.position.at).then_with(|| last_id(left).cmp(&last_id(right)))
        });
        let mut merged: Vec<Group> = Vec::with_capacity(self.groups.len());
        for group in self.groups.drain(..) {
            match merged.last_mut().filter(|last| last.position == group.position) {
                Some(last) => {
                    let mut shards = [&last.shards[..], &group.shards[..]].concat();
                    shards.sort_unstable();
                    last.shards = shards.into();
                }
                None => merged.push(group),
            }
        }
        self.groups = merged;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn snapshot(text: &str) -> Arc<Snapshot> {
        Arc::new(text.parse().unwrap())
    }

    #[test]
    fn a_snapshot_is_read_as_the_server_writes_it() {
        for text in ["10:10:", "10:20:10,14,15", "1:2:1"] {
            assert_eq!(text.parse::<Snapshot>().unwrap().to_string(), text);
        }
        for text in ["", "1:2", "a:2:", "20:10:", "10:20:9", "10:20:20", "10:20:15,12", "10:20:x"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }

    #[test]
    fn of_two_snapshots_with_one_xmax_the_later_has_fewer_running() {
        let (early, late) = (snapshot("10:20:10,12"), snapshot("12:20:12"));
        assert_eq!(early.order(&late), Ordering::Less);
        assert_eq!(late.order(&snapshot("20:21:20")), Ordering::Less);
    }

    #[test]
    fn a_partial_window_is_finished_before_anything_else() {
        let partial = Partial { end: snapshot("30:30:"), last_id: 5 };
        let groups = Groups::new([(3, Position { at: snapshot("10:10:"), partial: Some(partial) })]);
        assert_eq!(groups.window_end(snapshot("20:20:")), snapshot("30:30:"));
    }

    #[test]
    fn a_window_stops_where_another_group_stands() {
        let mut groups = Groups::new([
            (1, Position::at(snapshot("10:10:"))),
            (0, Position::at(snapshot("10:10:"))),
            (2, Position::at(snapshot("25:25:"))),
        ]);
        assert_eq!(groups.hindmost().unwrap().shards, [0, 1].into());
        let end = groups.window_end(snapshot("40:40:"));
        assert_eq!(end, snapshot("25:25:"));
        groups.advance(end);
        assert_eq!(groups.hindmost().unwrap().shards, [0, 1, 2].into());
    }

    /// A server in miniature: transactions begin, take ids, and end.
    #[derive(Debug, Default)]
    struct Server {
        next_txid: u64,
        next_id: i64,
        running: BTreeMap<u64, Vec<i64>>,
        /// Committed rows: id, transaction.
        committed: Vec<(i64, u64)>,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        Append(prop::sample::Index),
        Commit(prop::sample::Index),
        Abort(prop::sample::Index),
        Read,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Begin),
            4 => any::<prop::sample::Index>().prop_map(Step::Append),
            3 => any::<prop::sample::Index>().prop_map(Step::Commit),
            1 => any::<prop::sample::Index>().prop_map(Step::Abort),
            2 => Just(Step::Read),
        ]
    }

    impl Server {
        fn pick(&self, index: prop::sample::Index) -> Option<u64> {
            (!self.running.is_empty())
                .then(|| *self.running.keys().nth(index.index(self.running.len())).unwrap())
        }

        fn take(&mut self, step: &Step) {
            match step {
                Step::Begin => {
                    self.running.insert(self.next_txid, Vec::new());
                    self.next_txid += 1;
                }
                Step::Append(index) => {
                    if let Some(txid) = self.pick(*index) {
                        self.running.get_mut(&txid).unwrap().push(self.next_id);
                        self.next_id += 1;
                    }
                }
                Step::Commit(index) => {
                    if let Some(txid) = self.pick(*index) {
                        let ids = self.running.remove(&txid).unwrap();
                        self.committed.extend(ids.into_iter().map(|id| (id, txid)));
                    }
                }
                Step::Abort(index) => {
                    if let Some(txid) = self.pick(*index) {
                        self.running.remove(&txid);
                    }
                }
                Step::Read => {}
            }
        }

        fn snapshot(&self) -> Arc<Snapshot> {
            let running: Vec<u64> = self.running.keys().copied().collect();
            let xmin = running.first().copied().unwrap_or(self.next_txid);
            Arc::new(Snapshot { xmin, xmax: self.next_txid, running })
        }

        /// What the statement in `store::window` selects.
        fn window(&self, from: &Snapshot, end: &Snapshot) -> Vec<i64> {
            let mut ids: Vec<i64> = self
                .committed
                .iter()
                .filter(|(_, txid)| {
                    let after = *txid >= from.xmax() && *txid < end.xmax();
                    (after || from.running().contains(txid)) && end.sees(*txid)
                })
                .map(|(id, _)| *id)
                .collect();
            ids.sort_unstable();
            ids
        }
    }

    proptest! {
        #[test]
        fn successive_windows_hold_every_committed_row_once(
            steps in prop::collection::vec(step(), 1..200), keep in 1_usize..4
        ) {
            let mut server = Server { next_txid: 5, ..Server::default() };
            let mut ends = vec![server.snapshot()];
            let mut committed_before = Vec::new();
            for step in &steps {
                server.take(step);
                if matches!(step, Step::Read) {
                    ends.push(server.snapshot());
                    committed_before.push(server.committed.len());
                }
            }
            ends.push(server.snapshot());
            // Any selection of the snapshots in between will do, as when ticks are pruned or skipped.
            let chosen: Vec<_> = ends.iter().enumerate()
                .filter(|(index, _)| index % keep == 0 || *index == ends.len() - 1)
                .map(|(_, end)| Arc::clone(end)).collect();
            let mut seen: Vec<i64> =
                chosen.windows(2).flat_map(|pair| server.window(&pair[0], &pair[1])).collect();
            seen.sort_unstable();
            let mut expected: Vec<i64> = server.committed.iter().map(|(id, _)| *id).collect();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
            for pair in ends.windows(2) {
                prop_assert_ne!(pair[0].order(&pair[1]), Ordering::Greater);
                prop_assert_eq!(pair[0].order(&pair[1]) == Ordering::Equal, pair[0] == pair[1]);
            }
        }

        #[test]
        fn groups_read_everything_once_and_merge(
            starts in prop::collection::vec((0_usize..6, 0_usize..6, prop::option::of(0_i64..50)), 1..8),
            ticks in prop::collection::btree_set(0_usize..6, 0..6),
        ) {
            // Six snapshots in time, with 10 rows between each pair; a shard reads each row behind its start once.
            let ends: Vec<_> = (0..7_u64).map(|n| snapshot(&format!("{0}:{0}:", 10 + n))).collect();
            let place = |at: &Snapshot| usize::try_from(at.xmax() - 10).unwrap();
            let groups = starts.iter().enumerate().map(|(shard, (from, to, last_id))| {
                let partial = last_id.filter(|_| to > from)
                    .map(|last_id| Partial { end: Arc::clone(&ends[*to]), last_id });
                (i16::try_from(shard).unwrap(), Position { at: Arc::clone(&ends[*from]), partial })
            });
            let mut groups = Groups::new(groups);
            let mut read: BTreeMap<i16, Vec<usize>> = BTreeMap::new();
            let mut rounds = 0;
            while let Some(group) = groups.hindmost().cloned() {
                let from = place(&group.position.at);
                if from == 6 { break; }
                let tick = ticks.iter().find(|tick| **tick > from).copied().unwrap_or(6);
                let end = groups.window_end(Arc::clone(&ends[tick]));
                prop_assert!(place(&end) > from);
                for shard in group.shards.iter() {
                    read.entry(*shard).or_default().extend(from..place(&end));
                }
                groups.advance(end);
                rounds += 1;
                prop_assert!(rounds < 100);
            }
            prop_assert_eq!(groups.groups.len(), 1);
            for (shard, (from, _, _)) in starts.iter().enumerate() {
                let expected: Vec<usize> = (*from..6).collect();
                prop_assert_eq!(read.remove(&i16::try_from(shard).unwrap()).unwrap_or_default(), expected);
            }
        }
    }
}
