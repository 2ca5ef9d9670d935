//! The contiguous acknowledged prefix: how far the position may move. Pure.
//!
//! Invariant: the position never passes a record that is not acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::kill::is_sabotaged;
use super::window::Position;

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
    pub(crate) events: usize,
    pub(crate) batches: usize,
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
    events: usize,
    bytes: usize,
    advance: Advance,
}

#[derive(Debug)]
struct Batch {
    acknowledged: usize,
    /// `None` while records are still added.
    sealed: Option<Sealed>,
}

#[derive(Debug)]
struct Sealed {
    events: usize,
    bytes: usize,
    progress: Progress,
}

impl Batch {
    fn is_done(&self) -> bool {
        self.sealed.as_ref().is_some_and(|sealed| self.acknowledged == sealed.events)
    }
}

impl Prefix {
    /// Begins the next batch and answers its number.
    pub(crate) fn open(&mut self) -> usize {
        self.batches.push_back(Batch { acknowledged: 0, sealed: None });
        self.first + self.batches.len() - 1
    }

    /// The batch has got all its records. Answers whether the prefix moved.
    pub(crate) fn seal(&mut self, batch: usize, events: usize, bytes: usize, progress: Progress) -> bool {
        if let Some(open) = self.batch(batch) {
            open.sealed = Some(Sealed { events, bytes, progress });
            self.events += events;
            self.bytes += bytes;
        }
        self.pop()
    }

    /// One record of the batch is stored by the broker. Answers whether the prefix moved.
    pub(crate) fn acknowledged(&mut self, batch: usize) -> bool {
        if is_sabotaged("relay.past_gap") {
            return self.pass_gap(batch);
        }
        match self.batch(batch) {
            Some(open) => {
                open.acknowledged += 1;
                open.is_done() && self.pop()
            }
            None => false,
        }
    }

    /// Whether another batch of at most this size may be sent. A batch alone always may.
    pub(crate) fn has_room(&self, events: usize, bytes: usize, limits: InFlightLimits) -> bool {
        self.batches.is_empty()
            || (self.events + events <= limits.events_max && self.bytes + bytes <= limits.bytes_max)
    }

    /// Events that are sent and not yet in the acknowledged prefix.
    pub(crate) fn events_in_flight(&self) -> usize {
        self.events
    }

    /// Whether every batch is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Takes what has been published since the last call.
    pub(crate) fn take_advance(&mut self) -> Advance {
        std::mem::take(&mut self.advance)
    }

    fn batch(&mut self, number: usize) -> Option<&mut Batch> {
        self.batches.get_mut(number.checked_sub(self.first)?)
    }

    /// Wrong on purpose: takes whatever was sent before this record for acknowledged.
    fn pass_gap(&mut self, number: usize) -> bool {
        let before = (number + 1).saturating_sub(self.first);
        for batch in self.batches.iter_mut().take(before) {
            batch.acknowledged = batch.sealed.as_ref().map_or(0, |sealed| sealed.events);
        }
        self.pop()
    }

    fn pop(&mut self) -> bool {
        let mut moved = false;
        while self.batches.front().is_some_and(Batch::is_done) {
            let Some(sealed) = self.batches.pop_front().and_then(|batch| batch.sealed) else { break };
            self.first += 1;
            self.events -= sealed.events;
            self.bytes -= sealed.bytes;
            self.advance.push(sealed);
            moved = true;
        }
        moved
    }
}

impl Advance {
    fn push(&mut self, sealed: Sealed) {
        self.events += sealed.events;
        self.batches += usize::from(sealed.events > 0);
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

    fn progress(last_id: i64) -> Progress {
        let at = Arc::new("5:5:".parse().unwrap());
        let end = Arc::new("9:9:".parse().unwrap());
        Progress {
            shards: Arc::from([0, 1]),
            position: Position { at, partial: Some(Partial { end, last_id }) },
            taken_at: None,
        }
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
        assert!(!prefix.acknowledged(batch));
        assert!(prefix.seal(batch, 1, 10, progress(7)));
        assert_eq!(last_id(&prefix.take_advance()), Some(7));
    }

    #[test]
    fn an_empty_batch_waits_for_those_before_it() {
        let mut prefix = Prefix::default();
        let (first, second) = (prefix.open(), prefix.open());
        prefix.seal(first, 1, 10, progress(1));
        assert!(!prefix.seal(second, 0, 0, progress(2)));
        assert!(prefix.acknowledged(first));
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
                0,
                0,
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
        prefix.seal(batch, 5, 50, progress(1));
        assert!(prefix.has_room(5, 50, limits));
        assert!(!prefix.has_room(6, 50, limits));
        assert!(!prefix.has_room(5, 51, limits));
    }

    proptest! {
        #[test]
        fn the_position_never_passes_an_unacknowledged_record(
            sizes in prop::collection::vec(0_usize..6, 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 200),
            seal_late in prop::collection::vec(any::<bool>(), 30),
        ) {
            let mut prefix = Prefix::default();
            let mut late = Vec::new();
            let mut unacknowledged: Vec<usize> = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                prop_assert_eq!(prefix.open(), number);
                unacknowledged.extend(std::iter::repeat_n(number, *size));
                if seal_late[number] { late.push(number) } else {
                    prefix.seal(number, *size, size * 10, progress(i64::try_from(number).unwrap()));
                }
            }
            let mut reached = -1;
            let mut events = 0;
            for index in order {
                if let Some(number) = late.pop() {
                    prefix.seal(number, sizes[number], sizes[number] * 10, progress(i64::try_from(number).unwrap()));
                } else if !unacknowledged.is_empty() {
                    let number = unacknowledged.swap_remove(index.index(unacknowledged.len()));
                    prefix.acknowledged(number);
                }
                let advance = prefix.take_advance();
                events += advance.events;
                if let Some(last) = last_id(&advance) {
                    prop_assert!(last > reached);
                    reached = last;
                }
                let first_open = unacknowledged.iter().chain(&late).min().copied().unwrap_or(sizes.len());
                prop_assert_eq!(reached + 1, i64::try_from(first_open).unwrap());
            }
            prop_assert!(prefix.is_empty());
            prop_assert_eq!(events, sizes.iter().sum::<usize>());
            prop_assert_eq!((prefix.events_in_flight(), prefix.bytes), (0, 0));
        }
    }
}
