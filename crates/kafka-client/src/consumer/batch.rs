//! Records of one partition, copied once into few pieces of memory.

use std::sync::Arc;

use rdkafka::message::{Headers as _, Message, Timestamp};

use super::chunks::{ChunkPlace, ChunkPool, Chunks};
use crate::headers::readable;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}[{}]", self.topic, self.partition)
    }
}

/// Who stamped a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordTime {
    /// Not stamped.
    Unknown,
    /// By the producer, milliseconds since 1970.
    Created(i64),
    /// By the broker, milliseconds since 1970.
    Appended(i64),
}

/// Records of one partition in the order of their offsets, with gaps where the log has none.
#[derive(Debug)]
pub struct RecordBatch {
    /// Where they come from.
    pub origin: TopicPartition,
    /// The number given by [`Consumer::assign`](crate::Consumer::assign) or [`Consumer::seek`](crate::Consumer::seek).
    pub generation: u64,
    bytes: Chunks,
    records: Vec<Place>,
    /// Headers of the record that is being appended.
    headers: Vec<u8>,
}

/// Where a record's parts lie: key, value, headers, one after the other.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: i64,
    time: RecordTime,
    start: ChunkPlace,
    key: Option<usize>,
    value: Option<usize>,
    /// `None`: a header's name is not UTF-8.
    headers: Option<usize>,
}

/// One record of a batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Its place in the partition.
    pub offset: i64,
    /// When it was stamped.
    pub time: RecordTime,
    /// The key's bytes.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// `None`: the record's headers cannot be read, because a name is not UTF-8.
    pub headers: Option<HeaderIter<'a>>,
}

/// Names and values of headers, in order.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeaderIter<'a> {
    rest: &'a [u8],
}

const LENGTH_BYTES: usize = 4;
/// Stands for the length of a value that is null.
const NULL: u32 = u32::MAX;

impl<'a> HeaderIter<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn length(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(LENGTH_BYTES)?.try_into().ok()?))
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::try_from(self.length()?).ok()?;
        let name = std::str::from_utf8(self.bytes(length)?).ok()?;
        let value = match self.length()? {
            NULL => None,
            length => Some(self.bytes(usize::try_from(length).ok()?)?),
        };
        Some((name, value))
    }
}

impl RecordBatch {
    /// An empty batch.
    #[must_use]
    pub fn new(origin: TopicPartition, generation: u64) -> Self {
        Self::in_pool(origin, generation, ChunkPool::new(0))
    }

    /// An empty batch whose memory comes from a pool and returns to it.
    pub(super) fn in_pool(origin: TopicPartition, generation: u64, pool: ChunkPool) -> Self {
        Self { origin, generation, bytes: Chunks::new(pool), records: Vec::new(), headers: Vec::new() }
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of keys, values and headers.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.byte_len()
    }

    /// The record at `index`, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        self.records.get(index).map(|place| self.record(place))
    }

    /// Every record, by offset.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        self.records.iter().map(|place| self.record(place))
    }

    /// Appends a copy of a record; its offset must be above those before it.
    pub fn push<'a>(
        &mut self,
        offset: i64,
        time: RecordTime,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        self.headers.clear();
        let readable = readable(|| {
            for (name, value) in headers {
                push_part(&mut self.headers, Some(name.as_bytes()));
                push_part(&mut self.headers, value);
            }
        });
        if readable.is_none() {
            self.headers.clear();
        }
        let start = self.bytes.append(&[key.unwrap_or_default(), value.unwrap_or_default(), &self.headers]);
        self.records.push(Place {
            offset,
            time,
            start,
            key: key.map(<[u8]>::len),
            value: value.map(<[u8]>::len),
            headers: readable.map(|()| self.headers.len()),
        });
    }

    pub(crate) fn push_message<M: Message>(&mut self, message: &M) {
        let time = match message.timestamp() {
            Timestamp::CreateTime(millis) if millis >= 0 => RecordTime::Created(millis),
            Timestamp::LogAppendTime(millis) if millis >= 0 => RecordTime::Appended(millis),
            Timestamp::NotAvailable | Timestamp::CreateTime(_) | Timestamp::LogAppendTime(_) => {
                RecordTime::Unknown
            }
        };
        let headers = message.headers();
        let names =
            headers.into_iter().flat_map(|headers| headers.iter().map(|header| (header.key, header.value)));
        self.push(message.offset(), time, message.key(), message.payload(), names);
    }

    fn record(&self, place: &Place) -> RecordRef<'_> {
        let bytes = self.bytes.from(place.start);
        let (key, bytes) = bytes.split_at(place.key.unwrap_or(0));
        let (value, bytes) = bytes.split_at(place.value.unwrap_or(0));
        RecordRef {
            offset: place.offset,
            time: place.time,
            key: place.key.map(|_| key),
            value: place.value.map(|_| value),
            headers: place.headers.map(|length| HeaderIter { rest: &bytes[..length] }),
        }
    }
}

fn push_part(bytes: &mut Vec<u8>, part: Option<&[u8]>) {
    // A record is far shorter than 4 GiB, so the length fits and is never `NULL`.
    let length = part.map_or(NULL, |part| u32::try_from(part.len()).unwrap_or(NULL - 1));
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::new(TopicPartition { topic: "t".into(), partition: 3 }, 1)
    }

    #[test]
    fn records_come_back_as_they_were() {
        let mut batch = batch();
        batch.push(
            5,
            RecordTime::Created(7),
            Some(b"key"),
            None,
            [("a", Some(&b"1"[..])), ("b", None)].into_iter(),
        );
        batch.push(9, RecordTime::Unknown, None, Some(b""), std::iter::empty());
        let first = batch.get(0).unwrap();
        assert_eq!(
            (first.offset, first.time, first.key, first.value),
            (5, RecordTime::Created(7), Some(&b"key"[..]), None)
        );
        assert_eq!(first.headers.unwrap().collect::<Vec<_>>(), [("a", Some(&b"1"[..])), ("b", None)]);
        let second = batch.get(1).unwrap();
        assert_eq!((second.offset, second.key, second.value), (9, None, Some(&b""[..])));
        assert_eq!(second.headers.unwrap().count(), 0);
        assert!(batch.get(2).is_none());
        assert_eq!(batch.iter().map(|record| record.offset).collect::<Vec<_>>(), [5, 9]);
    }

    #[test]
    fn headers_whose_reading_panics_are_marked_and_their_neighbours_stay() {
        let mut batch = batch();
        let broken =
            std::iter::once(("fine", None)).chain(std::iter::from_fn(|| panic!("name is not UTF-8")));
        batch.push(1, RecordTime::Unknown, Some(b"k"), Some(b"v"), broken);
        batch.push(2, RecordTime::Unknown, Some(b"k2"), Some(b"v2"), [("h", None)].into_iter());
        let first = batch.get(0).unwrap();
        assert!(first.headers.is_none());
        assert_eq!((first.key, first.value), (Some(&b"k"[..]), Some(&b"v"[..])));
        let second = batch.get(1).unwrap();
        assert_eq!((second.key, second.value), (Some(&b"k2"[..]), Some(&b"v2"[..])));
        assert_eq!(second.headers.unwrap().count(), 1);
    }
}
