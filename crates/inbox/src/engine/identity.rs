//! Which event a record carries: what makes two records the same.

use std::time::Duration;

use uuid::{Uuid, Variant};

use super::plan::Rejection;

/// Lanes of `inbox.event_handled`. With 1, 2, 3, 4, 6, 8, 12 or 24 partitions, only one partition's owner touches a lane.
pub(crate) const LANES: u32 = 24;
/// Events of one row of `inbox.event_handled`.
pub(crate) const BLOCK_EVENTS: i64 = 4_096;
/// Unit in which ids are forgotten.
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Longest `ce_source`.
const SOURCE_BYTES_MAX: usize = 512;

/// The headers that identify an event, as bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IdentityHeaders<'a> {
    pub(crate) id: Option<&'a [u8]>,
    pub(crate) source: Option<&'a [u8]>,
    pub(crate) sequence: Option<&'a [u8]>,
}

/// An identity that refers to the record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundIdentity<'a> {
    Sequence { source: &'a str, sequence: i64 },
    Id(Uuid),
}

impl<'a> IdentityHeaders<'a> {
    /// Source and sequence if there is a sequence, else the id.
    pub(crate) fn find(&self) -> Result<FoundIdentity<'a>, Rejection> {
        match (self.sequence, self.source) {
            (Some(sequence), Some(source)) => Ok(FoundIdentity::Sequence {
                source: source_text(source)?,
                sequence: sequence_number(sequence)?,
            }),
            (Some(_), None) => Err(Rejection::new("invalid_event_id", "ce_sequence without ce_source")),
            (None, _) => {
                let id = self
                    .id
                    .ok_or_else(|| Rejection::new("missing_event_id", "neither ce_sequence nor ce_id"))?;
                Uuid::try_parse_ascii(id).map(FoundIdentity::Id).map_err(|error| {
                    Rejection::new("invalid_event_id", format!("ce_id is not a UUID: {error}"))
                })
            }
        }
    }
}

fn source_text(bytes: &[u8]) -> Result<&str, Rejection> {
    let refuse = |error: &str| Rejection::new("invalid_event_id", format!("ce_source {error}"));
    if bytes.is_empty() || bytes.len() > SOURCE_BYTES_MAX {
        return Err(refuse("is empty or longer than 512 bytes"));
    }
    if bytes.contains(&0) {
        return Err(refuse("has a NUL byte"));
    }
    std::str::from_utf8(bytes).map_err(|_| refuse("is not UTF-8"))
}

fn sequence_number(bytes: &[u8]) -> Result<i64, Rejection> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            Rejection::new("invalid_event_id", "ce_sequence is not a number from 0 to 9223372036854775807")
        })
}

/// The lane of a key: known from the key alone, so that it survives a change of the partition count.
pub(crate) fn lane(key: Option<&[u8]>) -> i16 {
    let lane = kafka_client::murmur2(key.unwrap_or_default()) % LANES;
    i16::try_from(lane).expect("a remainder of 24 fits")
}

/// Weeks from 1970 to the time in a `UUIDv7` (RFC 9562, section 5.7), by which its id is forgotten; -1 for an id that is none.
/// The same for every record of the event.
pub(crate) fn week(id: Uuid) -> i32 {
    if id.get_version_num() != 7 || id.get_variant() != Variant::RFC4122 {
        return -1;
    }
    let millis = id.as_u128() >> 80;
    i32::try_from(millis / WEEK.as_millis()).expect("48 bits of milliseconds are 465,000 weeks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_of_version_7_has_a_week() {
        let week_of = |text: &str| week(text.parse().unwrap());
        assert_eq!(week_of("00000000-0000-7000-8000-000000000000"), 0);
        assert_eq!(week_of("0190b3d2-7e2c-7f3a-8f60-1f2e3d4c5b6a"), 2845);
        assert_eq!(week_of("ffffffff-ffff-7fff-bfff-ffffffffffff"), 465_401);
        // Version 4, and a variant that is not the standard's.
        assert_eq!(week_of("0190b3d2-7e2c-4f3a-8f60-1f2e3d4c5b6a"), -1);
        assert_eq!(week_of("0190b3d2-7e2c-7f3a-0f60-1f2e3d4c5b6a"), -1);
    }

    fn find(id: Option<&str>, source: Option<&str>, sequence: Option<&str>) -> Result<bool, &'static str> {
        let headers = IdentityHeaders {
            id: id.map(str::as_bytes),
            source: source.map(str::as_bytes),
            sequence: sequence.map(str::as_bytes),
        };
        headers
            .find()
            .map(|found| matches!(found, FoundIdentity::Sequence { .. }))
            .map_err(|rejection| rejection.reason)
    }

    #[test]
    fn a_sequence_goes_before_an_id_and_a_broken_one_is_not_replaced_by_it() {
        let id = Some("0190b3d2-7e2c-7f3a-8f60-1f2e3d4c5b6a");
        assert_eq!(find(id, Some("urn:a"), Some("7")), Ok(true));
        assert_eq!(find(id, Some("urn:a"), None), Ok(false));
        assert_eq!(find(id, None, None), Ok(false));
        assert_eq!(find(None, Some("urn:a"), None), Err("missing_event_id"));
        for (source, sequence) in [
            (Some("urn:a"), "abc"),
            (Some("urn:a"), "-1"),
            (Some("urn:a"), "+1"),
            (Some("urn:a"), ""),
            (Some("urn:a"), "9223372036854775808"),
            (Some("urn:\0a"), "1"),
            (Some(""), "1"),
            (None, "1"),
        ] {
            assert_eq!(find(id, source, Some(sequence)), Err("invalid_event_id"), "{source:?} {sequence}");
        }
        assert_eq!(find(Some("forty-two"), None, None), Err("invalid_event_id"));
    }

    #[test]
    fn lanes_stay_below_their_number_and_one_partition_of_six_has_four() {
        let mut lanes = std::collections::BTreeSet::new();
        for number in 0..10_000 {
            let key = number.to_string();
            let lane = lane(Some(key.as_bytes()));
            if kafka_client::murmur2(key.as_bytes()) % 6 == 5 {
                lanes.insert(lane);
            }
        }
        assert_eq!(lanes.into_iter().collect::<Vec<_>>(), [5, 11, 17, 23]);
    }
}
