//! The metrics of this crate: names, and where they are counted.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::overview::Behind;

/// Events appended by this process, committed or not.
pub const APPENDED: &str = "outbox_appended_total";
/// Events acknowledged by the broker, in the contiguous prefix.
pub const PUBLISHED: &str = "outbox_published_total";
/// Batches acknowledged by the broker.
pub const BATCHES: &str = "outbox_batches_total";
/// From the first row of a batch to the acknowledgement of all its records.
pub const PUBLISH_SECONDS: &str = "outbox_publish_seconds";
/// Events sent and not yet in the acknowledged prefix.
pub const IN_FLIGHT: &str = "outbox_in_flight_events";
/// Upper bound of the age of the oldest committed event that is not published.
pub const LAG: &str = "outbox_lag_seconds";
/// Rows of a window; empty windows are not counted.
pub const WINDOW_ROWS: &str = "outbox_window_rows";
/// Writes of a position.
pub const POSITION_WRITES: &str = "outbox_position_writes_total";
/// Changes of ownership of shards, by `change`: `claimed`, `released`, `lost`.
pub const LEASE_CHANGES: &str = "outbox_lease_changes_total";
/// Shards that this process owns.
pub const SHARDS: &str = "outbox_owned_shards";
/// Living relays that share the shards, as this process sees them.
pub const MEMBERS: &str = "outbox_relay_members";
/// Records that could not be delivered, by `class`: `refused`, `passes`, `fatal`.
pub const DELIVERY_ERRORS: &str = "outbox_delivery_errors_total";
/// Producers thrown away after a failure, with everything in flight.
pub const PRODUCER_RESETS: &str = "outbox_producer_resets_total";
/// Times that the relay began again after a failure, by `reason`.
pub const FAILURES: &str = "outbox_failures_total";
/// Trouble that the client reported and goes on over, by `reason`: `unknown_topic`, `unauthorised`, `quota`, `broker`.
pub const TROUBLE: &str = "outbox_broker_trouble_total";
/// Records parked, by `reason`: `too_large`, `invalid`, `unreadable`, or `behind` such a record.
pub const PARKED: &str = "outbox_parked_total";
/// Parked records that were published after all.
pub const RELEASED: &str = "outbox_released_total";
/// Parked records of the owned shards, by `state`: `refused`, `waiting`.
pub const PARKED_EVENTS: &str = "outbox_parked_events";
/// Keys of the owned shards that have parked records.
pub const PARKED_KEYS: &str = "outbox_parked_keys";
/// Ticks taken by this process.
pub const TICKS: &str = "outbox_ticks_total";
/// Events that are committed and not published, by the stored positions.
pub const BACKLOG_ROWS: &str = "outbox_backlog_events";
/// Age of the oldest of them.
pub const BACKLOG_AGE: &str = "outbox_backlog_age_seconds";
/// Whether a limit of the backlog is exceeded, by `limit`: `age`, `events`.
pub const BACKLOG_ALARM: &str = "outbox_backlog_alarm";
/// Bytes of a segment's rows, index and large values, by `segment`.
pub const SEGMENT_BYTES: &str = "outbox_segment_bytes";
/// Rows of a segment by the server's statistics, by `segment`.
pub const SEGMENT_ROWS: &str = "outbox_segment_events";
/// Segments that should be empty and are not, by `reason`: `unpublished`, `locked`, `untrusted`, `came_round`.
pub const SEGMENTS_KEPT: &str = "outbox_segments_kept";
/// Segments truncated by this process.
pub const TRUNCATIONS: &str = "outbox_truncations_total";
/// Bytes given back by them.
pub const TRUNCATED_BYTES: &str = "outbox_truncated_bytes_total";

/// Tells the recorder what each metric means. Repeating it is harmless.
pub fn describe() {
    describe_counter!(APPENDED, Unit::Count, "Events appended by this process, committed or not");
    describe_counter!(PUBLISHED, Unit::Count, "Events acknowledged by the broker");
    describe_counter!(BATCHES, Unit::Count, "Batches acknowledged by the broker");
    describe_gauge!(IN_FLIGHT, Unit::Count, "Events sent and not yet in the acknowledged prefix");
    describe_gauge!(LAG, Unit::Seconds, "Upper bound of the age of the oldest event that is not published");
    describe_histogram!(
        PUBLISH_SECONDS,
        Unit::Seconds,
        "From the first row of a batch to the acknowledgement of all its records"
    );
    describe_histogram!(WINDOW_ROWS, Unit::Count, "Rows of a window that was not empty");
    describe_counter!(POSITION_WRITES, Unit::Count, "Writes of a position");
    describe_counter!(LEASE_CHANGES, Unit::Count, "Changes of ownership of shards, by change");
    describe_gauge!(SHARDS, Unit::Count, "Shards that this process owns");
    describe_gauge!(MEMBERS, Unit::Count, "Living relays that share the shards");
    describe_counter!(DELIVERY_ERRORS, Unit::Count, "Records that could not be delivered, by class");
    describe_counter!(PRODUCER_RESETS, Unit::Count, "Producers thrown away after a failure");
    describe_counter!(FAILURES, Unit::Count, "Times that the relay began again after a failure, by reason");
    describe_counter!(TROUBLE, Unit::Count, "Trouble that the client reported and goes on over, by reason");
    describe_counter!(PARKED, Unit::Count, "Records parked, by reason");
    describe_counter!(RELEASED, Unit::Count, "Parked records that were published after all");
    describe_gauge!(PARKED_EVENTS, Unit::Count, "Parked records of the owned shards, by state");
    describe_gauge!(PARKED_KEYS, Unit::Count, "Keys of the owned shards that have parked records");
    describe_counter!(TICKS, Unit::Count, "Ticks taken by this process");
    describe_gauge!(BACKLOG_ROWS, Unit::Count, "Events that are committed and not published");
    describe_gauge!(BACKLOG_AGE, Unit::Seconds, "Age of the oldest event that is not published");
    describe_gauge!(BACKLOG_ALARM, Unit::Count, "Whether a limit of the backlog is exceeded, by limit");
    describe_gauge!(SEGMENT_BYTES, Unit::Bytes, "Size of a segment");
    describe_gauge!(SEGMENT_ROWS, Unit::Count, "Rows of a segment, estimated");
    describe_gauge!(SEGMENTS_KEPT, Unit::Count, "Segments that should be empty and are not, by reason");
    describe_counter!(TRUNCATIONS, Unit::Count, "Segments truncated by this process");
    describe_counter!(TRUNCATED_BYTES, Unit::Bytes, "Bytes given back by truncation");
}

/// How the ownership of a shard changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LeaseChange {
    Claimed,
    Released,
    Lost,
}

/// Why a segment that should be empty is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentTrouble {
    Unpublished,
    Locked,
    Untrusted,
    CameRound,
}

impl SegmentTrouble {
    pub(crate) const ALL: [Self; 4] = [Self::Unpublished, Self::Locked, Self::Untrusted, Self::CameRound];

    const fn label(self) -> &'static str {
        match self {
            Self::Unpublished => "unpublished",
            Self::Locked => "locked",
            Self::Untrusted => "untrusted",
            Self::CameRound => "came_round",
        }
    }
}

pub(crate) fn appended(events: usize) {
    counter!(APPENDED).increment(count(events));
}

pub(crate) fn published(events: usize, batches: usize) {
    counter!(PUBLISHED).increment(count(events));
    counter!(BATCHES).increment(count(batches));
}

pub(crate) fn acknowledged(time: Duration) {
    histogram!(PUBLISH_SECONDS).record(time.as_secs_f64());
}

pub(crate) fn window_read(rows: usize) {
    // Exact below 2^32, far above any window that fits its time.
    histogram!(WINDOW_ROWS).record(f64::from(u32::try_from(rows).unwrap_or(u32::MAX)));
}

pub(crate) fn position_written() {
    counter!(POSITION_WRITES).increment(1);
}

pub(crate) fn leases_changed(change: LeaseChange, shards: usize) {
    let change = match change {
        LeaseChange::Claimed => "claimed",
        LeaseChange::Released => "released",
        LeaseChange::Lost => "lost",
    };
    counter!(LEASE_CHANGES, "change" => change).increment(count(shards));
}

pub(crate) fn delivery_failed(class: &'static str) {
    counter!(DELIVERY_ERRORS, "class" => class).increment(1);
}

pub(crate) fn producer_reset() {
    counter!(PRODUCER_RESETS).increment(1);
}

pub(crate) fn failed(reason: &'static str) {
    counter!(FAILURES, "reason" => reason).increment(1);
}

pub(crate) fn troubled(reason: &'static str) {
    counter!(TROUBLE, "reason" => reason).increment(1);
}

pub(crate) fn parked_refused(reason: &'static str) {
    counter!(PARKED, "reason" => reason).increment(1);
}

pub(crate) fn parked_waiting(events: usize) {
    counter!(PARKED, "reason" => "behind").increment(count(events));
}

pub(crate) fn released(events: usize) {
    counter!(RELEASED).increment(count(events));
}

pub(crate) fn report_parked(refused: usize, waiting: usize, keys: usize) {
    for (state, events) in [("refused", refused), ("waiting", waiting)] {
        gauge!(PARKED_EVENTS, "state" => state).set(gauged(events));
    }
    gauge!(PARKED_KEYS).set(gauged(keys));
}

fn gauged(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

pub(crate) fn tick_taken() {
    counter!(TICKS).increment(1);
}

pub(crate) fn backlog_measured(behind: Behind, is_old: bool, is_long: bool) {
    gauge!(BACKLOG_ROWS).set(wide(behind.rows.count));
    gauge!(BACKLOG_AGE).set(behind.oldest_age.unwrap_or_default().as_secs_f64());
    gauge!(BACKLOG_ALARM, "limit" => "age").set(f64::from(u8::from(is_old)));
    gauge!(BACKLOG_ALARM, "limit" => "events").set(f64::from(u8::from(is_long)));
}

pub(crate) fn segment_seen(segment: i16, bytes: i64, rows_estimate: Option<i64>) {
    let segment = segment.to_string();
    gauge!(SEGMENT_BYTES, "segment" => segment.clone()).set(wide(bytes.unsigned_abs()));
    if let Some(rows) = rows_estimate {
        gauge!(SEGMENT_ROWS, "segment" => segment).set(wide(rows.unsigned_abs()));
    }
}

pub(crate) fn segments_in_trouble(trouble: SegmentTrouble, segments: usize) {
    gauge!(SEGMENTS_KEPT, "reason" => trouble.label()).set(wide(count(segments)));
}

pub(crate) fn truncated(bytes: i64) {
    counter!(TRUNCATIONS).increment(1);
    counter!(TRUNCATED_BYTES).increment(bytes.unsigned_abs());
}

pub(crate) fn report(shards: usize, members: usize, in_flight: usize, lag: Option<Duration>) {
    gauge!(MEMBERS).set(f64::from(u32::try_from(members).unwrap_or(u32::MAX)));
    gauge!(SHARDS).set(f64::from(u32::try_from(shards).unwrap_or(u32::MAX)));
    gauge!(IN_FLIGHT).set(f64::from(u32::try_from(in_flight).unwrap_or(u32::MAX)));
    if let Some(lag) = lag {
        gauge!(LAG).set(lag.as_secs_f64());
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// As a gauge's value: rounded from 2^53 on.
fn wide(number: u64) -> f64 {
    let half = |bits: u64| f64::from(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX));
    half(number >> u32::BITS).mul_add(4_294_967_296.0, half(number))
}

#[cfg(test)]
mod tests {
    use super::wide;

    #[test]
    fn a_wide_number_keeps_its_value() {
        for (number, value) in [(0, 0.0), (1, 1.0), (5_000_000_000, 5e9), (1 << 52, 4_503_599_627_370_496.0)]
        {
            assert!((wide(number) - value).abs() < 0.5, "{number}");
        }
    }
}
