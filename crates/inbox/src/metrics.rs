//! The metrics of this crate: names, and where they are counted.

use std::time::Duration;

use kafka_client::TopicPartition;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::dead_letter::LetterStatus;
use crate::store::batch::Advance;

/// Transactions committed, by `group`.
pub const BATCHES: &str = "inbox_batches_total";
/// Records of a committed transaction, by `group`.
pub const BATCH_RECORDS: &str = "inbox_batch_records";
/// Time of a committed transaction, by `group`.
pub const TRANSACTION_SECONDS: &str = "inbox_transaction_seconds";
/// Events that had their effect, by `group`.
pub const HANDLED: &str = "inbox_handled_total";
/// Events that were handled before, by `group`.
pub const DUPLICATES: &str = "inbox_duplicates_total";
/// Records that became dead letters, by `group` and `reason`.
pub const DEAD_LETTERS: &str = "inbox_dead_letters_total";
/// Letters that had their effect when their turn came, by `group`.
pub const RELEASED: &str = "inbox_released_total";
/// Dead letters stored on their topic.
pub const DEAD_LETTERS_PUBLISHED: &str = "inbox_dead_letters_published_total";
/// Dead letters that nobody has dealt with, by `group` and `status`: `new`, `published`, `blocked`.
pub const DEAD_LETTER_DEPTH: &str = "inbox_dead_letter_depth";
/// Age of the oldest of them, by `group` and `status`.
pub const DEAD_LETTER_AGE: &str = "inbox_dead_letter_oldest_age_seconds";
/// Dead letters sent to their original topic again by this process, by `group`.
pub const DEAD_LETTERS_REDRIVEN: &str = "inbox_dead_letters_redriven_total";
/// Dead letters given up by this process, by `group`.
pub const DEAD_LETTERS_DISCARDED: &str = "inbox_dead_letters_discarded_total";
/// Offsets that carried nothing for the group, by `group`.
pub const SKIPPED: &str = "inbox_skipped_total";
/// Records of a type that the projection does not know, skipped or dead letters, by `group`.
pub const UNKNOWN_TYPES: &str = "inbox_unknown_types_total";
/// Transactions refused because another owner moved the offset, by `group`.
pub const FENCE_ABORTS: &str = "inbox_fence_aborts_total";
/// Batches that are tried again after a passing failure, by `group`.
pub const RETRIES: &str = "inbox_retries_total";
/// Transactions cut in two to find an event that the database refuses, by `group`.
pub const BISECTIONS: &str = "inbox_bisections_total";
/// Rebalances, by `group` and `change`: `assigned`, `revoked`, `lost`.
pub const REBALANCES: &str = "inbox_rebalances_total";
/// Events that retention forgot, by `kind`: `sequence`, `id`.
pub const FORGOTTEN: &str = "inbox_forgotten_total";
/// Offsets between the stored offset and the log's end, by `group`, `topic` and `partition`.
pub const LAG: &str = "inbox_lag_records";
/// Age of the oldest record that is not handled, by `group`, `topic` and `partition`.
pub const LAG_SECONDS: &str = "inbox_lag_seconds";
/// From an event to the commit of its effect, one event a transaction, by `group`.
pub const VISIBLE_SECONDS: &str = "inbox_visible_seconds";
/// Partitions that are stopped, by `group`.
pub const STOPPED: &str = "inbox_stopped_partitions";

/// Tells the recorder what each metric means. Repeating it is harmless.
pub fn describe() {
    describe_counter!(BATCHES, Unit::Count, "Transactions committed, by group");
    describe_histogram!(BATCH_RECORDS, Unit::Count, "Records of a committed transaction, by group");
    describe_histogram!(TRANSACTION_SECONDS, Unit::Seconds, "Time of a committed transaction, by group");
    describe_counter!(HANDLED, Unit::Count, "Events that had their effect, by group");
    describe_counter!(FORGOTTEN, Unit::Count, "Handled events that retention forgot, by kind");
    describe_counter!(DUPLICATES, Unit::Count, "Events that were handled before, by group");
    describe_counter!(DEAD_LETTERS, Unit::Count, "Records that became dead letters, by group and reason");
    describe_counter!(RELEASED, Unit::Count, "Letters that had their effect when their turn came, by group");
    describe_counter!(DEAD_LETTERS_PUBLISHED, Unit::Count, "Dead letters stored on their topic");
    describe_gauge!(
        DEAD_LETTER_DEPTH,
        Unit::Count,
        "Dead letters that nobody has dealt with, by group and status"
    );
    describe_gauge!(
        DEAD_LETTER_AGE,
        Unit::Seconds,
        "Age of the oldest open dead letter, by group and status"
    );
    describe_counter!(
        DEAD_LETTERS_REDRIVEN,
        Unit::Count,
        "Dead letters sent to their original topic again, by group"
    );
    describe_counter!(DEAD_LETTERS_DISCARDED, Unit::Count, "Dead letters given up, by group");
    describe_counter!(SKIPPED, Unit::Count, "Offsets that carried nothing for the group");
    describe_counter!(
        UNKNOWN_TYPES,
        Unit::Count,
        "Records of a type that the projection does not know, by group"
    );
    describe_counter!(
        FENCE_ABORTS,
        Unit::Count,
        "Transactions refused because another owner moved the offset"
    );
    describe_counter!(RETRIES, Unit::Count, "Batches that are tried again after a passing failure");
    describe_counter!(BISECTIONS, Unit::Count, "Transactions cut in two to find a refused event");
    describe_counter!(REBALANCES, Unit::Count, "Rebalances, by group and change");
    describe_gauge!(LAG, Unit::Count, "Offsets between the stored offset and the log's end");
    describe_gauge!(LAG_SECONDS, Unit::Seconds, "Age of the oldest record that is not handled");
    describe_histogram!(
        VISIBLE_SECONDS,
        Unit::Seconds,
        "From the oldest new event of a transaction to its commit"
    );
    describe_gauge!(STOPPED, Unit::Count, "Partitions that are stopped, by group");
}

/// How an assignment changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rebalanced {
    Assigned,
    Revoked,
    Lost,
}

pub(crate) fn committed(group: &str, advance: &Advance, records: usize, time: Duration) {
    let group = group.to_owned();
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    counter!(BATCHES, "group" => group.clone()).increment(1);
    histogram!(BATCH_RECORDS, "group" => group.clone())
        .record(f64::from(u32::try_from(records).unwrap_or(u32::MAX)));
    histogram!(TRANSACTION_SECONDS, "group" => group.clone()).record(time.as_secs_f64());
    counter!(HANDLED, "group" => group.clone()).increment(count(advance.handled));
    counter!(DUPLICATES, "group" => group.clone()).increment(count(advance.duplicates));
    counter!(SKIPPED, "group" => group).increment(count(advance.skipped));
}

pub(crate) fn dead_lettered(group: &str, reason: &'static str) {
    counter!(DEAD_LETTERS, "group" => group.to_owned(), "reason" => reason).increment(1);
}

pub(crate) fn released(group: &str, letters: usize) {
    counter!(RELEASED, "group" => group.to_owned()).increment(u64::try_from(letters).unwrap_or(u64::MAX));
}

pub(crate) fn unknown_types(group: &str, records: usize) {
    counter!(UNKNOWN_TYPES, "group" => group.to_owned())
        .increment(u64::try_from(records).unwrap_or(u64::MAX));
}

pub(crate) fn dead_letters_published(letters: usize) {
    counter!(DEAD_LETTERS_PUBLISHED).increment(u64::try_from(letters).unwrap_or(u64::MAX));
}

pub(crate) fn dead_letter_depth(group: &str, status: LetterStatus, letters: i64, oldest_age: Duration) {
    let labels = [("group", group.to_owned()), ("status", status.as_str().to_owned())];
    gauge!(DEAD_LETTER_DEPTH, &labels).set(f64::from(u32::try_from(letters).unwrap_or(u32::MAX)));
    gauge!(DEAD_LETTER_AGE, &labels).set(oldest_age.as_secs_f64());
}

pub(crate) fn redriven(group: &str, letters: u64) {
    counter!(DEAD_LETTERS_REDRIVEN, "group" => group.to_owned()).increment(letters);
}

pub(crate) fn discarded(group: &str) {
    counter!(DEAD_LETTERS_DISCARDED, "group" => group.to_owned()).increment(1);
}

pub(crate) fn fenced(group: &str) {
    counter!(FENCE_ABORTS, "group" => group.to_owned()).increment(1);
}

pub(crate) fn retried(group: &str) {
    counter!(RETRIES, "group" => group.to_owned()).increment(1);
}

pub(crate) fn bisected(group: &str) {
    counter!(BISECTIONS, "group" => group.to_owned()).increment(1);
}

pub(crate) fn rebalanced(group: &str, change: Rebalanced) {
    let change = match change {
        Rebalanced::Assigned => "assigned",
        Rebalanced::Revoked => "revoked",
        Rebalanced::Lost => "lost",
    };
    counter!(REBALANCES, "group" => group.to_owned(), "change" => change).increment(1);
}

fn lag_labels(group: &str, origin: &TopicPartition) -> [(&'static str, String); 3] {
    [
        ("group", group.to_owned()),
        ("topic", origin.topic.to_string()),
        ("partition", origin.partition.to_string()),
    ]
}

pub(crate) fn lag(group: &str, origin: &TopicPartition, records: i64) {
    let records = f64::from(u32::try_from(records).unwrap_or(u32::MAX));
    gauge!(LAG, &lag_labels(group, origin)).set(records);
}

pub(crate) fn lag_age(group: &str, origin: &TopicPartition, age: Duration) {
    gauge!(LAG_SECONDS, &lag_labels(group, origin)).set(age.as_secs_f64());
}

/// The partition is not this process's any more: what it told last must not stand for ever.
pub(crate) fn no_lag(group: &str, origin: &TopicPartition) {
    lag(group, origin, 0);
    lag_age(group, origin, Duration::ZERO);
}

pub(crate) fn visible(group: &str, after: Duration) {
    histogram!(VISIBLE_SECONDS, "group" => group.to_owned()).record(after.as_secs_f64());
}

pub(crate) fn stopped(group: &str, partitions: usize) {
    gauge!(STOPPED, "group" => group.to_owned())
        .set(f64::from(u32::try_from(partitions).unwrap_or(u32::MAX)));
}

pub(crate) fn forgotten(sequences: i64, ids: i64) {
    for (kind, events) in [("sequence", sequences), ("id", ids)] {
        counter!(FORGOTTEN, "kind" => kind).increment(u64::try_from(events).unwrap_or_default());
    }
}
