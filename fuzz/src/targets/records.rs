//! Records of a topic: what consumers make of them, what becomes of their dead letters, and whether the verifier sees the same events. An
//! input is records with `---` between them; each has a line with its key, lines with headers, an empty line, and a value. `~` is null.

use std::cell::OnceCell;
use std::sync::Arc;

use inbox::fuzzing::{Outcome, check_batch};
use kafka_client::{RecordBatch, RecordTime, StoredRecord, TopicPartition};
use product_cache::ProductCache;
use runtime::database::Pool;

use super::first_line;
use super::http::{cache, closed_pool};

/// Records of one input.
const RECORDS_MAX: usize = 8;
/// The name of a header that is none: the record's time.
const TIME: &str = "@time";

thread_local! {
    /// What the projection of stock would write to.
    static PARTS: OnceCell<(Arc<dyn ProductCache>, Pool)> = const { OnceCell::new() };
}

pub(super) fn run(input: &[u8]) {
    let records: Vec<StoredRecord> = split(input, b"\n---\n")
        .take(RECORDS_MAX)
        .enumerate()
        .filter_map(|(index, part)| record(index, part))
        .collect();
    let batch = || batch(&records);
    check(&batch(), &records);
    let outcomes = check_batch(&commerce_streamer::fuzzing::metrics(), "view-events", batch());
    // What the projection of counts takes the verifier counts too, as the same event.
    for (record, outcome) in records.iter().zip(&outcomes) {
        if let Outcome::Applied(identity) = outcome {
            let seen = commerce_workload::fuzzing::seen_event(record);
            assert_eq!(seen.as_ref(), Some(identity), "{record:?}");
        }
    }
    PARTS.with(|parts| {
        let (cache, pool) = parts.get_or_init(|| (cache(), closed_pool()));
        let stock = commerce_streamer::fuzzing::stock(Arc::clone(cache), pool.clone());
        let of_stock = check_batch(&stock, "stock-events", batch());
        assert_eq!(of_stock.len(), outcomes.len());
    });
}

/// Records come back as they were.
fn check(batch: &RecordBatch, records: &[StoredRecord]) {
    assert_eq!(batch.len(), records.len());
    for (kept, record) in batch.iter().zip(records) {
        assert_eq!((kept.key, kept.value), (record.key.as_deref(), record.value.as_deref()));
        let headers: Vec<_> = kept.headers.expect("names are text").collect();
        let expected: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        assert_eq!(headers, expected);
    }
}

fn batch(records: &[StoredRecord]) -> RecordBatch {
    let mut batch = RecordBatch::new(TopicPartition { topic: "view-events".into(), partition: 0 }, 1);
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let time = record.timestamp.map_or(RecordTime::Unknown, RecordTime::Created);
        batch.push(record.offset, time, record.key.as_deref(), record.value.as_deref(), headers);
    }
    batch
}

fn record(index: usize, part: &[u8]) -> Option<StoredRecord> {
    let (key, mut rest) = first_line(part);
    let mut record = StoredRecord {
        partition: 0,
        offset: i64::try_from(index).ok()?,
        timestamp: None,
        key: nullable(key),
        value: None,
        headers: Vec::new(),
    };
    loop {
        let (line, behind) = first_line(rest);
        rest = behind;
        if line.is_empty() {
            break;
        }
        let end = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = std::str::from_utf8(&line[..end]).ok()?;
        let value = line.get(end + 1..).map(|value| value.trim_ascii_start().to_vec());
        if name == TIME {
            record.timestamp = value.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok());
        } else {
            record.headers.push((name.to_owned(), value));
        }
    }
    record.value = nullable(rest);
    Some(record)
}

fn nullable(bytes: &[u8]) -> Option<Vec<u8>> {
    (bytes != b"~").then(|| bytes.to_vec())
}

fn split<'a>(mut input: &'a [u8], mark: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let end = input.windows(mark.len()).position(|window| window == mark);
        let part = &input[..end.unwrap_or(input.len())];
        is_over = end.is_none();
        input = end.map_or(&[], |end| &input[end + mark.len()..]);
        Some(part)
    })
}
