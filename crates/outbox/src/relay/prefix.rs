//! The contiguous acknowledged prefix: how far the position may move. Pure.
//!
//! Invariant: the position never passes a record that is neither acknowledged nor among those that are parked with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::kill::is_sabotaged;
use super::window::Position;
use crate::store::parked::ParkedEvent;

/// Where some shards will stand when a batch, and all before it, are acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) shards: Arc<[i16]>,
    pub(crate) position: Position,
    /// When the position's snapshot was taken, at window ends.
    pub(crate) taken_at: Option<Instant>,
}

/// What has been published since it was last asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Advance {
    /// In order; one entry for successive batches of the same shards.
    pub(crate) progress: Vec<Progress>,
    /// Published.
    pub(crate) events: usize,
    pub(crate) batches: usize,
    /// To be parked in the transaction that writes `progress`. They take room until [`Prefix::parked_written`].
    pub(crate) parked: Vec<ParkedEvent>,
}

/// What a batch holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Sent or parked.
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    /// Those that were not sent; nothing will be acknowledged for them.
    pub(crate) parked: Vec<ParkedEvent>,
    /// When its first row came from the database; `None` for a batch without rows.
    pub(crate) begun_at: Option<Instant>,
}

/// Number and size of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Load {
    /// Of these events.
    pub(crate) fn of(parked: &[ParkedEvent]) -> Self {
        let bytes = parked.iter().map(|parked| parked.event.stored().bytes()).sum();
        Self { events: parked.len(), bytes }
    }
}

/// Most that may be sent and not yet in the acknowledged prefix: after a crash that much is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlightLimits {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
}

/// Batches in the order in which they were sent.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    /// Number of the first batch in `batches`.
    first: usize,
    batches: VecDeque<Batch>,
    load: Load,
    /// Parked events that are in the prefix and not yet written.
    unwritten: Load,
    advance: Advance,
    /// Of the last batch of the prefix that had rows, until it is taken.
    begun_at: Option<Instant>,
}

#[derive(Debug)]
struct Batch {
    acknowledged: usize,
    /// `None` while records are still added.
    sealed: Option<Sealed>,
}

#[derive(Debug)]
struct Sealed {
    contents: Contents,
    progress: Progress,
}

impl Batch {
    fn is_done(&self) -> bool {
        self.sealed.as_ref().is_some_and(|Sealed { contents, .. }| {
            self.acknowledged + contents.parked.len() == contents.events
        })
    }
}

impl Prefix {
    /// Begins the next batch and answers its number.
    pub(crate) fn open(&mut self) -> usize {
        self.batches.push_back(Batch { acknowledged: 0, sealed: None });
        self.first + self.batches.len() - 1
    }

    /// The batch has got all its records. Answers whether the prefix moved.
    pub(crate) fn seal(&mut self, batch: usize, contents: Contents, progress: Progress) -> bool {
        let Contents { events, bytes, .. } = contents;
        if let Some(open) = self.batch(batch) {
            open.sealed = Some(Sealed { contents, progress });
            self.load.events += events;
            self.load.bytes += bytes;
        }
        self.pop()
    }

    /// So many records of the batch are stored by the broker. Answers whether the prefix moved.
    pub(crate) fn acknowledged(&mut self, batch: usize, records: usize) -> bool {
        if is_sabotaged("relay.past_gap") {
            return self.pass_gap(batch);
        }
        match self.batch(batch) {
            Some(open) => {
                open.acknowledged += records;
                open.is_done() && self.pop()
            }
            None => false,
        }
    }

    /// Whether another batch of at most this size may be sent. A batch alone always may.
    pub(crate) fn has_room(&self, events: usize, bytes: usize, limits: InFlightLimits) -> bool {
        let taken_events = self.load.events + self.unwritten.events;
        let taken_bytes = self.load.bytes + self.unwritten.bytes;
        (self.batches.is_empty() && self.unwritten.events == 0)
            || (taken_events + events <= limits.events_max && taken_bytes + bytes <= limits.bytes_max)
    }

    /// Parked events that were taken by [`Self::take_advance`] are in the database.
    pub(crate) fn parked_written(&mut self, written: Load) {
        self.unwritten.events = self.unwritten.events.saturating_sub(written.events);
        self.unwritten.bytes = self.unwritten.bytes.saturating_sub(written.bytes);
    }

    /// Whether no parked event of the prefix is left to be written.
    pub(crate) fn has_written_parked(&self) -> bool {
        self.unwritten.events == 0
    }

    /// Events that are sent and not yet in the acknowledged prefix.
    pub(crate) fn events_in_flight(&self) -> usize {
        self.load.events
    }

    /// Whether every batch is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Takes what has been published since the last call.
    pub(crate) fn take_advance(&mut self) -> Advance {
        std::mem::take(&mut self.advance)
    }

    /// Takes when the last batch that the prefix moved over was begun.
    pub(crate) fn take_begun_at(&mut self) -> Option<Instant> {
        self.begun_at.take()
    }

    fn batch(&mut self, number: usize) -> Option<&mut Batch> {
        self.batches.get_mut(number.checked_sub(self.first)?)
    }

    /// Wrong on purpose: takes whatever was sent before this record for acknowledged.
    fn pass_gap(&mut self, number: usize) -> bool {
        let before = (number + 1).saturating_sub(self.first);
        for batch in self.batches.iter_mut().take(before) {
            batch.acknowledged = batch
                .sealed
                .as_ref()
                .map_or(0, |sealed| sealed.contents.events - sealed.contents.parked.len());
        }
        self.pop()
    }

    fn pop(&mut self) -> bool {
        let mut moved = false;
        while self.batches.front().is_some_and(Batch::is_done) {
            let Some(sealed) = self.batches.pop_front().and_then(|batch| batch.sealed) else { break };
            self.first += 1;
            self.load.events -= sealed.contents.events;
            self.load.bytes -= sealed.contents.bytes;
            let parked = Load::of(&sealed.contents.parked);
            self.unwritten.events += parked.events;
            self.unwritten.bytes += parked.bytes;
            self.begun_at = sealed.contents.begun_at.or(self.begun_at);
            self.advance.push(sealed);
            moved = true;
        }
        moved
    }
}

impl Advance {
    fn push(&mut self, sealed: Sealed) {
        let Contents { events, mut parked, .. } = sealed.contents;
        let published = events - parked.len();
        self.events += published;
        self.batches += usize::from(published > 0);
        self.parked.append(&mut parked);
        let Progress { shards, position, taken_at } = sealed.progress;
        match self.progress.last_mut().filter(|last| last.shards == shards) {
            Some(last) => {
                last.position = position;
                last.taken_at = taken_at.or(last.taken_at);
            }
            None => self.progress.push(Progress { shards, position, taken_at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::window::Partial;
    use super::*;
    use crate::store::window::{History, WholeEvent};

    fn progress(last_id: i64) -> Progress {
        let at = Arc::new("5:5:".parse().unwrap());
        let end = Arc::new("9:9:".parse().unwrap());
        Progress {
            shards: Arc::from([0, 1]),
            position: Position { at, partial: Some(Partial { end, last_id }) },
            taken_at: None,
        }
    }

    fn sent(events: usize, bytes: usize) -> Contents {
        Contents { events, bytes, parked: Vec::new(), begun_at: None }
    }

    #[test]
    fn the_begin_of_the_last_batch_with_rows_is_told_once() {
        let (mut prefix, begun_at) = (Prefix::default(), Instant::now());
        let batch = prefix.open();
        prefix.seal(batch, Contents { begun_at: Some(begun_at), ..sent(2, 20) }, progress(2));
        assert!(!prefix.acknowledged(batch, 1));
        assert_eq!(prefix.take_begun_at(), None);
        assert!(prefix.acknowledged(batch, 1));
        let empty = prefix.open();
        prefix.seal(empty, Contents::default(), progress(3));
        assert_eq!(prefix.take_begun_at(), Some(begun_at));
        assert_eq!(prefix.take_begun_at(), None);
    }

    /// An event with as many bytes.
    fn parked(id: i64, bytes: usize) -> ParkedEvent {
        let event = WholeEvent {
            shard: 0,
            id,
            event_id: uuid::Uuid::nil(),
            history: History { system_identifier: 1, timeline: 1 },
            event_type: String::new(),
            aggregate_type: String::new(),
            aggregate_id: String::new(),
            aggregate_version: None,
            topic: String::new(),
            partition_key: String::new(),
            payload: Some(vec![0; bytes]),
            headers: None,
            traceparent: None,
            occurred_at: chrono::DateTime::UNIX_EPOCH,
        };
        ParkedEvent { event, refused: None }
    }

    fn last_id(advance: &Advance) -> Option<i64> {
        advance
            .progress
            .last()
            .and_then(|progress| progress.position.partial.as_ref())
            .map(|partial| partial.last_id)
    }

    #[test]
    fn an_acknowledgement_before_the_batch_is_sealed_counts() {
        let mut prefix = Prefix::default();
        let batch = prefix.open();
        assert!(!prefix.acknowledged(batch, 1));
        assert!(prefix.seal(batch, sent(1, 10), progress(7)));
        assert_eq!(last_id(&prefix.take_advance()), Some(7));
    }

    #[test]
    fn an_empty_batch_waits_for_those_before_it() {
        let mut prefix = Prefix::default();
        let (first, second) = (prefix.open(), prefix.open());
        prefix.seal(first, sent(1, 10), progress(1));
        assert!(!prefix.seal(second, sent(0, 0), progress(2)));
        assert!(prefix.acknowledged(first, 1));
        assert_eq!(last_id(&prefix.take_advance()), Some(2));
        assert!(prefix.is_empty());
    }

    #[test]
    fn other_shards_keep_their_own_progress() {
        let mut prefix = Prefix::default();
        for (batch, shards) in [[0_i16, 1], [2, 3], [2, 3]].into_iter().enumerate() {
            assert_eq!(prefix.open(), batch);
            prefix.seal(
                batch,
                sent(0, 0),
                Progress { shards: Arc::from(shards), ..progress(i64::try_from(batch).unwrap()) },
            );
        }
        let advance = prefix.take_advance();
        assert_eq!(advance.progress.len(), 2);
        assert_eq!(last_id(&advance), Some(2));
    }

    #[test]
    fn room_is_limited_by_events_and_by_bytes_but_one_batch_always_fits() {
        let limits = InFlightLimits { events_max: 10, bytes_max: 100 };
        let mut prefix = Prefix::default();
        assert!(prefix.has_room(11, 101, limits));
        let batch = prefix.open();
        prefix.seal(batch, sent(5, 50), progress(1));
        assert!(prefix.has_room(5, 50, limits));
        assert!(!prefix.has_room(6, 50, limits));
        assert!(!prefix.has_room(5, 51, limits));
    }

    #[test]
    fn a_parked_event_moves_the_prefix_in_its_turn_and_takes_room_until_it_is_written() {
        let limits = InFlightLimits { events_max: 3, bytes_max: 100 };
        let mut prefix = Prefix::default();
        let (first, second) = (prefix.open(), prefix.open());
        let contents = Contents { events: 2, bytes: 60, parked: vec![parked(2, 50)], begun_at: None };
        assert!(!prefix.seal(second, contents, progress(2)));
        assert!(!prefix.acknowledged(second, 1));
        prefix.seal(first, sent(1, 10), progress(1));
        assert!(prefix.acknowledged(first, 1));
        let advance = prefix.take_advance();
        assert_eq!((advance.events, &advance.parked), (2, &vec![parked(2, 50)]));
        assert_eq!(last_id(&advance), Some(2));
        assert!(prefix.is_empty());
        assert!(prefix.has_room(2, 50, limits) && !prefix.has_room(3, 50, limits));
        assert!(!prefix.has_room(2, 51, limits));
        prefix.parked_written(Load::of(&advance.parked));
        assert!(prefix.has_room(4, 101, limits));
    }

    proptest! {
        #[test]
        fn the_position_never_passes_an_unacknowledged_record(
            // Records that are sent, and that are parked, of each batch.
            sizes in prop::collection::vec((0_usize..6, 0_usize..3), 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 200),
            seal_late in prop::collection::vec(any::<bool>(), 30),
        ) {
            let contents = |number: usize| {
                let (sent, set_aside) = sizes[number];
                let id = i64::try_from(number).unwrap();
                let parked = (0..set_aside).map(|_| parked(id, 10)).collect();
                (Contents { events: sent + set_aside, bytes: (sent + set_aside) * 10, parked, begun_at: None }, progress(id))
            };
            let mut prefix = Prefix::default();
            let mut late = Vec::new();
            let mut unacknowledged: Vec<usize> = Vec::new();
            for (number, (sent, _)) in sizes.iter().enumerate() {
                prop_assert_eq!(prefix.open(), number);
                unacknowledged.extend(std::iter::repeat_n(number, *sent));
                if seal_late[number] { late.push(number) } else {
                    let (contents, progress) = contents(number);
                    prefix.seal(number, contents, progress);
                }
            }
            let mut reached = -1;
            let (mut events, mut set_aside) = (0, Vec::new());
            for index in order {
                if let Some(number) = late.pop() {
                    let (contents, progress) = contents(number);
                    prefix.seal(number, contents, progress);
                } else if !unacknowledged.is_empty() {
                    let number = unacknowledged.swap_remove(index.index(unacknowledged.len()));
                    prefix.acknowledged(number, 1);
                }
                let advance = prefix.take_advance();
                events += advance.events;
                if let Some(last) = last_id(&advance) {
                    prop_assert!(last > reached);
                    reached = last;
                }
                // Neither lost nor early: exactly those that the position passes.
                prop_assert!(advance.parked.iter().all(|parked| parked.event.id <= reached));
                set_aside.extend(advance.parked);
                let passed = usize::try_from(reached + 1).unwrap();
                prop_assert_eq!(set_aside.len(), sizes[..passed].iter().map(|(_, parked)| parked).sum::<usize>());
                let first_open = unacknowledged.iter().chain(&late).min().copied().unwrap_or(sizes.len());
                prop_assert_eq!(passed, first_open);
            }
            prop_assert!(prefix.is_empty());
            prop_assert!(set_aside.is_sorted_by_key(|parked| parked.event.id));
            prop_assert_eq!(events, sizes.iter().map(|(sent, _)| sent).sum::<usize>());
            prop_assert_eq!(prefix.load, Load::default());
            prefix.parked_written(Load::of(&set_aside));
            prop_assert!(prefix.has_written_parked());
            prop_assert_eq!(prefix.unwritten, Load::default());
        }
    }
}
