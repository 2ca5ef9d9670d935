//! The encoding of an event's own headers in one `bytea` column.
//!
//! For each header: length of the name (2 bytes), name, length of the value (4 bytes), value; integers big-endian.
//! No headers at all are a null column.

use thiserror::Error;

/// The name under which an event's id travels.
pub(crate) const EVENT_ID: &str = "ce_id";

/// Bytes that are not headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("stored headers are not readable at byte {at}")]
pub struct UnreadableHeaders {
    /// Where reading stopped.
    pub at: usize,
}

/// A header that does not fit the encoding: a name over 65,535 bytes or a value over 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("header is too long to be stored")]
pub struct HeaderTooLong;

/// The stored form; `None` when there are no headers.
///
/// # Errors
/// A header that is too long.
pub fn encode(headers: &[(String, Vec<u8>)]) -> Result<Option<Vec<u8>>, HeaderTooLong> {
    if headers.is_empty() {
        return Ok(None);
    }
    let mut bytes =
        Vec::with_capacity(headers.iter().map(|(name, value)| 6 + name.len() + value.len()).sum());
    for (name, value) in headers {
        let name_length = u16::try_from(name.len()).map_err(|_| HeaderTooLong)?;
        let value_length = u32::try_from(value.len()).map_err(|_| HeaderTooLong)?;
        bytes.extend_from_slice(&name_length.to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&value_length.to_be_bytes());
        bytes.extend_from_slice(value);
    }
    Ok(Some(bytes))
}

/// Adds the headers stored in `bytes` to `into`, without copying them.
///
/// # Errors
/// Bytes that [`encode`] did not write; `into` may have got some headers then.
pub fn decode_into<'a>(
    bytes: &'a [u8],
    into: &mut Vec<(&'a str, &'a [u8])>,
) -> Result<(), UnreadableHeaders> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (header, after) = split_header(rest).ok_or(UnreadableHeaders { at })?;
        into.push(header);
        rest = after;
    }
    Ok(())
}

type Header<'a> = (&'a str, &'a [u8]);

fn split_header(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some(((std::str::from_utf8(name).ok()?, value), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, UnreadableHeaders> {
        let mut headers = Vec::new();
        decode_into(bytes, &mut headers)?;
        Ok(headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect())
    }

    #[test]
    fn no_headers_take_no_bytes() {
        assert_eq!(encode(&[]), Ok(None));
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert_eq!(encode(&[("n".repeat(65_536), Vec::new())]), Err(HeaderTooLong));
    }

    #[test]
    fn cut_bytes_are_refused_by_position() {
        let bytes = encode(&[("a".to_owned(), vec![1]), ("b".to_owned(), vec![2])]).unwrap().unwrap();
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Err(UnreadableHeaders { at: 8 }));
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(
            headers in prop::collection::vec((".{0,20}", prop::collection::vec(any::<u8>(), 0..40)), 1..8)
        ) {
            let bytes = encode(&headers).unwrap().unwrap();
            prop_assert_eq!(decode(&bytes).unwrap(), headers);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }
}
