//! What can be wrong with a request, and the rules for its small parts.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::error_code::ErrorCode;
use crate::language::Language;

/// A request that breaks a rule. Each rule has a row of its own in [`ErrorCode`]'s table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{}", self.code().message(Language::English))]
pub(crate) enum InvalidInput {
    Id,
    TooManyIds,
    Query,
    Body,
    IdempotencyKey,
    Page,
    Search,
    Date,
    NoLines,
    TooManyLines,
    Quantity,
    Total,
    NoProducts,
    TooManyProducts,
    Code,
    DuplicateCode,
    Name,
    Brand,
    Price,
    Stock,
    NothingToChange,
}

impl InvalidInput {
    /// The row of the table that answers it.
    pub(crate) const fn code(self) -> ErrorCode {
        match self {
            Self::Id => ErrorCode::Id,
            Self::TooManyIds => ErrorCode::TooManyIds,
            Self::Query => ErrorCode::Query,
            Self::Body => ErrorCode::Body,
            Self::IdempotencyKey => ErrorCode::IdempotencyKey,
            Self::Page => ErrorCode::Page,
            Self::Search => ErrorCode::Search,
            Self::Date => ErrorCode::Date,
            Self::NoLines => ErrorCode::NoLines,
            Self::TooManyLines => ErrorCode::TooManyLines,
            Self::Quantity => ErrorCode::Quantity,
            Self::Total => ErrorCode::Total,
            Self::NoProducts => ErrorCode::NoProducts,
            Self::TooManyProducts => ErrorCode::TooManyProducts,
            Self::Code => ErrorCode::Code,
            Self::DuplicateCode => ErrorCode::DuplicateCode,
            Self::Name => ErrorCode::Name,
            Self::Brand => ErrorCode::Brand,
            Self::Price => ErrorCode::Price,
            Self::Stock => ErrorCode::Stock,
            Self::NothingToChange => ErrorCode::NothingToChange,
        }
    }
}

/// An id from a path: a positive 64-bit number in plain digits.
pub(crate) fn parse_id(text: &str) -> Result<i64, InvalidInput> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidInput::Id);
    }
    text.parse().ok().filter(|id| *id > 0).ok_or(InvalidInput::Id)
}

/// Distinct ids from a list that commas separate, in ascending order; the list names at most `ids_max`.
pub(crate) fn parse_ids(text: &str, ids_max: usize) -> Result<Vec<i64>, InvalidInput> {
    let ids = text.split(',').map(parse_id).collect::<Result<BTreeSet<_>, _>>()?;
    if ids.len() > ids_max {
        return Err(InvalidInput::TooManyIds);
    }
    Ok(ids.into_iter().collect())
}

/// An idempotency key as the client chose it.
pub(crate) fn check_idempotency_key(key: &[u8], bytes_max: usize) -> Result<&str, InvalidInput> {
    let valid = (1..=bytes_max).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    valid.then_some(key).and_then(|key| std::str::from_utf8(key).ok()).ok_or(InvalidInput::IdempotencyKey)
}

/// Whether `text` is a `traceparent` of W3C Trace Context version 00 whose ids are not all zero.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |part: &str, length| hex(part, length) && part.bytes().any(|byte| byte != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, span, flags] => id(trace, 32) && id(span, 16) && hex(flags, 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidInput, check_idempotency_key, is_traceparent, parse_id, parse_ids};

    #[test]
    fn an_id_is_a_positive_number_in_plain_digits() {
        assert_eq!(parse_id("9223372036854775807"), Ok(i64::MAX));
        for text in ["", "0", "-1", "+1", "1.0", " 1", "9223372036854775808", "١", "1 or 1=1", "0x10"] {
            assert!(parse_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn so_many_ids_are_distinct_and_in_order() {
        assert_eq!(parse_ids("3,1,3,2", 3), Ok(vec![1, 2, 3]));
        assert_eq!(parse_ids("1,2,3,4", 3), Err(InvalidInput::TooManyIds));
        for text in ["", ",", "1,", "1,,2", "1, 2", "1;2", "1,0", "1,x"] {
            assert_eq!(parse_ids(text, 3), Err(InvalidInput::Id), "{text}");
        }
    }

    #[test]
    fn an_idempotency_key_is_bounded_and_visible() {
        assert_eq!(check_idempotency_key(b"a-1", 255), Ok("a-1"));
        assert!(check_idempotency_key(&[b'a'; 255], 255).is_ok());
        for key in [&b""[..], &[b'a'; 256], b"a b", b"a\0", "é".as_bytes(), b"\xff"] {
            assert!(check_idempotency_key(key, 255).is_err(), "{key:?}");
        }
    }

    #[test]
    fn only_a_valid_traceparent_is_passed_on() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(!is_traceparent(text), "{text}");
        }
    }
}
