//! What can be wrong with a request, and the rules for its small parts.

use thiserror::Error;

/// The longest `Idempotency-Key`.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// A request that breaks a rule; each has a code that clients can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InvalidInput {
    #[error("the path does not hold a valid id")]
    Id,
    #[error("the query cannot be read")]
    Query,
    #[error("page or size is outside the limits")]
    Page,
    #[error("the body is not the JSON that is expected here")]
    Body,
    #[error("an order needs at least one line")]
    NoLines,
    #[error("the order has too many lines")]
    TooManyLines,
    #[error("a quantity is outside the limits")]
    Quantity,
    #[error("the order's total is too large")]
    Total,
    #[error("the request needs at least one product")]
    NoProducts,
    #[error("the request has too many products")]
    TooManyProducts,
    #[error("a product's code is empty, too long, or holds control characters")]
    Code,
    #[error("a product's code appears twice")]
    DuplicateCode,
    #[error("a product's name is empty, too long, or holds control characters")]
    Name,
    #[error("a price is outside the limits")]
    Price,
    #[error("a stock quantity is outside the limits")]
    Stock,
    #[error("the Idempotency-Key must be 1 to 255 visible ASCII characters, given once")]
    IdempotencyKey,
}

impl InvalidInput {
    /// The code on the wire.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Id => "INVALID_ID",
            Self::Query => "INVALID_QUERY",
            Self::Page => "INVALID_PAGE",
            Self::Body => "INVALID_BODY",
            Self::NoLines => "NO_LINES",
            Self::TooManyLines => "TOO_MANY_LINES",
            Self::Quantity => "INVALID_QUANTITY",
            Self::Total => "TOTAL_TOO_LARGE",
            Self::NoProducts => "NO_PRODUCTS",
            Self::TooManyProducts => "TOO_MANY_PRODUCTS",
            Self::Code => "INVALID_CODE",
            Self::DuplicateCode => "DUPLICATE_CODE",
            Self::Name => "INVALID_NAME",
            Self::Price => "INVALID_PRICE",
            Self::Stock => "INVALID_STOCK",
            Self::IdempotencyKey => "INVALID_IDEMPOTENCY_KEY",
        }
    }

    /// The message for Korean readers.
    pub(crate) const fn korean(self) -> &'static str {
        match self {
            Self::Id => "경로의 ID가 올바르지 않습니다",
            Self::Query => "쿼리를 읽을 수 없습니다",
            Self::Page => "page 또는 size가 허용 범위를 벗어났습니다",
            Self::Body => "요청 본문이 올바른 JSON이 아닙니다",
            Self::NoLines => "주문 항목이 하나 이상 필요합니다",
            Self::TooManyLines => "주문 항목이 너무 많습니다",
            Self::Quantity => "수량이 허용 범위를 벗어났습니다",
            Self::Total => "주문 총액이 너무 큽니다",
            Self::NoProducts => "상품이 하나 이상 필요합니다",
            Self::TooManyProducts => "상품이 너무 많습니다",
            Self::Code => "상품 코드가 비어 있거나 너무 길거나 제어 문자를 포함합니다",
            Self::DuplicateCode => "같은 상품 코드가 두 번 있습니다",
            Self::Name => "상품 이름이 비어 있거나 너무 길거나 제어 문자를 포함합니다",
            Self::Price => "가격이 허용 범위를 벗어났습니다",
            Self::Stock => "재고 수량이 허용 범위를 벗어났습니다",
            Self::IdempotencyKey => "Idempotency-Key는 한 번만, 1~255자의 ASCII 문자로 보내야 합니다",
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

/// An idempotency key as the client chose it.
pub(crate) fn check_idempotency_key(key: &[u8]) -> Result<&str, InvalidInput> {
    let valid = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
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
    use super::{check_idempotency_key, is_traceparent, parse_id};

    #[test]
    fn an_id_is_a_positive_number_in_plain_digits() {
        assert_eq!(parse_id("9223372036854775807"), Ok(i64::MAX));
        for text in ["", "0", "-1", "+1", "1.0", " 1", "9223372036854775808", "١", "1 or 1=1", "0x10"] {
            assert!(parse_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_idempotency_key_is_bounded_and_visible() {
        assert_eq!(check_idempotency_key(b"a-1"), Ok("a-1"));
        assert!(check_idempotency_key(&[b'a'; 255]).is_ok());
        for key in [&b""[..], &[b'a'; 256], b"a b", b"a\0", "é".as_bytes(), b"\xff"] {
            assert!(check_idempotency_key(key).is_err(), "{key:?}");
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
