//! What a streamer tells about itself while it runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_client::TopicPartition;

use crate::age::Aged;
use crate::metrics;
use crate::stop_reason::StopReason;

/// The poll thread is taken for dead after so long without a sign of life.
const TICK_AGE_MAX: Duration = Duration::from_secs(30);
/// Not ready after so long outside of the group.
const MEMBER_AGE_MAX: Duration = Duration::from_secs(30);

/// One assigned partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which one.
    pub origin: TopicPartition,
    /// The stored offset.
    pub next_offset: i64,
    /// Offsets up to the log's end; `None` until the end is known.
    pub lag: Option<i64>,
    /// Why it is not read.
    pub stopped: Option<StopReason>,
    /// Why its batch is tried again.
    pub retrying: Option<String>,
    /// How long it has had lag without moving.
    pub waiting: Option<Duration>,
    /// How old the oldest record is that was not handled, at most; zero when there is none.
    pub lag_age: Duration,
}

#[derive(Debug)]
struct Partition {
    next_offset: i64,
    end: Option<i64>,
    is_at_end: bool,
    stopped: Option<StopReason>,
    retrying: Option<String>,
    waiting_since: Option<Instant>,
    /// No record from `next_offset` on is older. It is the stamp of the next record as soon as that is read; until then the
    /// stamp of the last one before it, or the moment when there was none left.
    oldest: Aged,
    /// Offset and stamp of the last record that was read.
    newest: Option<(i64, Aged)>,
}

impl Partition {
    /// A stopped partition is not observed any more: nobody may say that it has no lag.
    fn is_caught_up(&self) -> bool {
        let has_batch = self.newest.is_some_and(|(offset, _)| offset >= self.next_offset);
        self.stopped.is_none() && !has_batch && self.lag() == Some(0)
    }

    fn lag_age(&self) -> Duration {
        if self.is_caught_up() { Duration::ZERO } else { self.oldest.age() }
    }

    fn lag(&self) -> Option<i64> {
        // Control records at the log's end are never handed over.
        if self.is_at_end { Some(0) } else { self.end.map(|end| (end - self.next_offset).max(0)) }
    }

    /// Starts or ends the clock of standing still.
    fn judge(&mut self, has_moved: bool) {
        if self.lag().is_none_or(|lag| lag == 0) {
            self.waiting_since = None;
        } else if has_moved || self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
        }
    }
}

#[derive(Debug)]
struct Figures {
    partitions: BTreeMap<TopicPartition, Partition>,
    stall_after: Duration,
    ticks: u64,
    ticked_at: Instant,
    /// When it was last seen as a settled member of its group.
    member_at: Option<Instant>,
    moved_at: Option<Instant>,
}

/// Live figures of a streamer, for readiness, liveness and metrics. Share it by `Arc`.
#[derive(Debug)]
pub struct StreamerStatus {
    figures: Mutex<Figures>,
}

impl Default for StreamerStatus {
    fn default() -> Self {
        let figures = Figures {
            partitions: BTreeMap::new(),
            stall_after: Duration::from_secs(30),
            ticks: 0,
            ticked_at: Instant::now(),
            member_at: None,
            moved_at: None,
        };
        Self { figures: Mutex::new(figures) }
    }
}

impl StreamerStatus {
    /// Every assigned partition.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        let describe = |(origin, partition): (&TopicPartition, &Partition)| PartitionStatus {
            origin: origin.clone(),
            next_offset: partition.next_offset,
            lag: partition.lag(),
            stopped: partition.stopped.clone(),
            retrying: partition.retrying.clone(),
            waiting: partition.waiting_since.map(|since| since.elapsed()),
            lag_age: partition.lag_age(),
        };
        self.lock().partitions.iter().map(describe).collect()
    }

    /// Lag of all assigned partitions whose end is known.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.lock().partitions.values().filter_map(Partition::lag).sum()
    }

    /// How long ago an offset was last stored; `None` before the first time.
    #[must_use]
    pub fn since_progress(&self) -> Option<Duration> {
        self.lock().moved_at.map(|at| at.elapsed())
    }

    /// Whether events are being handled as they come.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Why it is not ready, in words for operators.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        let figures = self.lock();
        if figures.member_at.is_none_or(|at| at.elapsed() > MEMBER_AGE_MAX) {
            return Some("is not a member of its consumer group".to_owned());
        }
        figures.partitions.iter().find_map(|(origin, partition)| {
            if let Some(reason) = &partition.stopped {
                return Some(format!("{origin} is stopped: {reason}"));
            }
            let waiting = partition.waiting_since?.elapsed();
            (waiting > figures.stall_after).then(|| {
                let reason = partition.retrying.as_deref().unwrap_or("no reason is known");
                format!("{origin} has lag and has not moved for {} s: {reason}", waiting.as_secs())
            })
        })
    }

    /// Whether the poll thread gives signs of life.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.lock().ticked_at.elapsed() < TICK_AGE_MAX
    }

    pub(crate) fn set_stall_after(&self, stall_after: Duration) {
        self.lock().stall_after = stall_after;
    }

    pub(crate) fn ticked(&self, ticks: u64) {
        let mut figures = self.lock();
        if figures.ticks != ticks {
            figures.ticks = ticks;
            figures.ticked_at = Instant::now();
        }
    }

    pub(crate) fn assigned(&self, origin: TopicPartition, next_offset: i64, stopped: Option<StopReason>) {
        let mut figures = self.lock();
        // A stopped partition is asked about again and again: its records grow older all the same.
        let known = figures.partitions.get(&origin).filter(|known| known.next_offset == next_offset);
        let partition = Partition {
            next_offset,
            end: None,
            is_at_end: false,
            stopped,
            retrying: None,
            waiting_since: None,
            oldest: known.map_or_else(Aged::now, |known| known.oldest),
            newest: None,
        };
        figures.partitions.insert(origin, partition);
    }

    /// Somebody else tells its lag from now on.
    pub(crate) fn removed(&self, group: &str, origin: &TopicPartition) {
        if self.lock().partitions.remove(origin).is_some() {
            metrics::no_lag(group, origin);
        }
    }

    /// A new consumer begins.
    pub(crate) fn cleared(&self, group: &str) {
        for origin in std::mem::take(&mut self.lock().partitions).into_keys() {
            metrics::no_lag(group, &origin);
        }
    }

    /// A batch came, from `first` to the record at `last`; without stamps what is known stays.
    pub(crate) fn read(&self, origin: &TopicPartition, first: Option<Aged>, last: (i64, Option<Aged>)) {
        if let Some(partition) = self.lock().partitions.get_mut(origin) {
            partition.oldest = first.unwrap_or(partition.oldest);
            partition.newest = Some((last.0, last.1.unwrap_or(partition.oldest)));
        }
    }

    /// Tells how old what waits is. Called at intervals, whether anything is read or not.
    pub(crate) fn report_lag_age(&self, group: &str) {
        for (origin, partition) in &mut self.lock().partitions {
            if partition.is_caught_up() {
                partition.oldest = Aged::now();
            }
            metrics::lag_age(group, origin, partition.lag_age());
        }
    }

    pub(crate) fn moved(&self, origin: &TopicPartition, next_offset: i64) {
        let mut figures = self.lock();
        figures.moved_at = Some(Instant::now());
        if let Some(partition) = figures.partitions.get_mut(origin) {
            partition.next_offset = next_offset;
            partition.retrying = None;
            // Records are stamped in about the order of their offsets.
            if let Some((_, newest)) = partition.newest.filter(|(offset, _)| *offset < next_offset) {
                partition.oldest = newest;
            }
            partition.judge(true);
        }
    }

    pub(crate) fn stopped(&self, origin: &TopicPartition, reason: StopReason) {
        if let Some(partition) = self.lock().partitions.get_mut(origin) {
            partition.stopped = Some(reason);
        }
    }

    pub(crate) fn retrying(&self, origin: &TopicPartition, error: String) {
        if let Some(partition) = self.lock().partitions.get_mut(origin) {
            partition.retrying = Some(error);
        }
    }

    pub(crate) fn at_end(&self, origin: &TopicPartition, is_at_end: bool) {
        if let Some(partition) = self.lock().partitions.get_mut(origin) {
            partition.is_at_end = is_at_end;
            partition.judge(false);
        }
    }

    pub(crate) fn observed(&self, group: &str, ends: Vec<(TopicPartition, i64)>, is_member: bool) {
        let mut figures = self.lock();
        if is_member {
            figures.member_at = Some(Instant::now());
        }
        for (origin, end) in ends {
            if let Some(partition) = figures.partitions.get_mut(&origin) {
                partition.end = Some(end);
                partition.judge(false);
                if let Some(lag) = partition.lag() {
                    metrics::lag(group, &origin, lag);
                }
            }
        }
        let stopped = figures.partitions.values().filter(|partition| partition.stopped.is_some()).count();
        metrics::stopped(group, stopped);
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> (StreamerStatus, TopicPartition) {
        let status = StreamerStatus::default();
        let origin = TopicPartition { topic: "t".into(), partition: 0 };
        status.assigned(origin.clone(), 5, None);
        (status, origin)
    }

    #[test]
    fn it_is_ready_only_as_a_member_and_while_what_has_lag_moves() {
        let (status, origin) = status();
        assert!(status.not_ready().is_some_and(|text| text.contains("not a member")));
        status.observed("g", vec![(origin.clone(), 5)], true);
        assert_eq!(status.not_ready(), None);
        status.set_stall_after(Duration::ZERO);
        assert_eq!(status.not_ready(), None);
        status.observed("g", vec![(origin.clone(), 7)], true);
        assert_eq!(status.lag(), 2);
        status.retrying(&origin, "no table".to_owned());
        assert!(status.not_ready().is_some_and(|text| text.ends_with("no table")));
        status.moved(&origin, 7);
        assert_eq!((status.lag(), status.not_ready()), (0, None));
    }

    #[test]
    fn a_stopped_partition_makes_it_not_ready() {
        let (status, origin) = status();
        status.observed("g", vec![], true);
        status.stopped(&origin, StopReason::BeyondLogEnd { stored: 5, high: 3 });
        assert!(status.not_ready().is_some_and(|text| text.contains("t[0] is stopped")));
    }

    #[test]
    fn what_waits_grows_older_also_while_nothing_is_read() {
        let hour = Duration::from_secs(3600);
        let now = std::time::SystemTime::now();
        let (status, origin) = status();
        let age = || status.partitions()[0].lag_age;
        status.observed("g", vec![(origin.clone(), 5)], true);
        assert_eq!(age(), Duration::ZERO);
        // A batch in hand waits although the log's end, which is looked at now and then, does not tell of it yet.
        status.read(&origin, Some(Aged::of(now - 2 * hour, now)), (6, Some(Aged::of(now - hour, now))));
        assert!(age() >= 2 * hour);
        status.observed("g", vec![(origin.clone(), 9)], true);
        status.moved(&origin, 7);
        assert!(age() >= hour && age() < 2 * hour, "{:?}", age());
        status.stopped(&origin, StopReason::OutOfRange(7));
        // Asked about again, and still stopped; then at what was the end of the log when it was last seen.
        status.assigned(origin.clone(), 7, Some(StopReason::OutOfRange(7)));
        assert!(age() >= hour);
        status.observed("g", vec![(origin.clone(), 7)], true);
        assert!(age() >= hour);
        status.report_lag_age("g");
        assert!(age() >= hour);
        // An operator lets it go on.
        status.assigned(origin.clone(), 7, None);
        status.observed("g", vec![(origin.clone(), 7)], true);
        assert_eq!(age(), Duration::ZERO);
    }

    #[test]
    fn control_records_at_the_end_of_the_log_are_no_lag() {
        let (status, origin) = status();
        status.observed("g", vec![(origin.clone(), 6)], true);
        assert_eq!(status.lag(), 1);
        status.at_end(&origin, true);
        assert_eq!(status.lag(), 0);
        status.at_end(&origin, false);
        assert_eq!(status.lag(), 1);
    }
}
