//! The one table of what can be answered instead of data: code, status, and the message in both languages.
//!
//! The status tells what a client can do. 400: the request cannot be read. 422: it can be read, and a value in it breaks
//! a rule. 404: what it names is not there. 409: it would be right in another state of the shop. 429: the caller asks too
//! often. 503: the same request may succeed later. Codes are stable; messages are for people and may change.
//! `docs/http-api.md` lists the codes, and a test compares both.

use axum::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::language::Language;

/// Declares the codes, so that none can be without its row.
macro_rules! error_codes {
    ($($name:ident $status:ident $text:literal, $english:literal, $korean:literal;)*) => {
        /// A stable code with its row of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ErrorCode { $($name),* }

        impl ErrorCode {
            /// Every code in the order of the table.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code on the wire.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The status that always comes with it.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// The message for people who read this language.
            pub(crate) const fn message(self, language: Language) -> &'static str {
                match (self, language) {
                    $((Self::$name, Language::English) => $english, (Self::$name, Language::Korean) => $korean,)*
                }
            }
        }
    };
}

error_codes! {
    Id BAD_REQUEST "INVALID_ID", "an id is not a positive number", "ID가 올바르지 않습니다";
    Query BAD_REQUEST "INVALID_QUERY", "the query cannot be read", "쿼리를 읽을 수 없습니다";
    Body BAD_REQUEST "INVALID_BODY", "the body is not the JSON that is expected here", "요청 본문이 올바른 JSON이 아닙니다";
    IdempotencyKey BAD_REQUEST "INVALID_IDEMPOTENCY_KEY", "the Idempotency-Key is empty, too long, not visible ASCII, or given twice", "Idempotency-Key가 비어 있거나 너무 길거나 ASCII 문자가 아니거나 두 번 전송되었습니다";
    Page UNPROCESSABLE_ENTITY "INVALID_PAGE", "page or size is outside the limits", "page 또는 size가 허용 범위를 벗어났습니다";
    Search UNPROCESSABLE_ENTITY "INVALID_SEARCH", "the search text is empty, too long, or holds control characters", "검색어가 비어 있거나 너무 길거나 제어 문자를 포함합니다";
    Date UNPROCESSABLE_ENTITY "INVALID_DATE", "the date is no day (yyyyMMdd) from 2000 to today, or the hour is none that has begun in it", "날짜(yyyyMMdd) 또는 시간이 올바르지 않거나 아직 시작되지 않았습니다";
    TooManyIds UNPROCESSABLE_ENTITY "TOO_MANY_IDS", "the request names too many ids", "ID가 너무 많습니다";
    NoLines UNPROCESSABLE_ENTITY "NO_LINES", "an order needs at least one line", "주문 항목이 하나 이상 필요합니다";
    TooManyLines UNPROCESSABLE_ENTITY "TOO_MANY_LINES", "the order has too many lines", "주문 항목이 너무 많습니다";
    Quantity UNPROCESSABLE_ENTITY "INVALID_QUANTITY", "a quantity is outside the limits", "수량이 허용 범위를 벗어났습니다";
    Total UNPROCESSABLE_ENTITY "TOTAL_TOO_LARGE", "the order's total is too large", "주문 총액이 너무 큽니다";
    NoProducts UNPROCESSABLE_ENTITY "NO_PRODUCTS", "the request needs at least one product", "상품이 하나 이상 필요합니다";
    TooManyProducts UNPROCESSABLE_ENTITY "TOO_MANY_PRODUCTS", "the request has too many products", "상품이 너무 많습니다";
    Code UNPROCESSABLE_ENTITY "INVALID_CODE", "a product's code is empty, too long, or holds control characters", "상품 코드가 비어 있거나 너무 길거나 제어 문자를 포함합니다";
    DuplicateCode UNPROCESSABLE_ENTITY "DUPLICATE_CODE", "a product's code appears twice", "같은 상품 코드가 두 번 있습니다";
    Name UNPROCESSABLE_ENTITY "INVALID_NAME", "a product's name is empty, too long, or holds control characters", "상품 이름이 비어 있거나 너무 길거나 제어 문자를 포함합니다";
    Brand UNPROCESSABLE_ENTITY "INVALID_BRAND", "a brand is empty, too long, or holds control characters", "브랜드가 비어 있거나 너무 길거나 제어 문자를 포함합니다";
    Price UNPROCESSABLE_ENTITY "INVALID_PRICE", "a price is outside the limits", "가격이 허용 범위를 벗어났습니다";
    Stock UNPROCESSABLE_ENTITY "INVALID_STOCK", "a stock quantity is outside the limits", "재고 수량이 허용 범위를 벗어났습니다";
    NothingToChange UNPROCESSABLE_ENTITY "NOTHING_TO_CHANGE", "the request names nothing to change", "변경할 항목이 없습니다";
    FilterTooWide UNPROCESSABLE_ENTITY "FILTER_TOO_WIDE", "too many products match to be sorted by counts; narrow the filter or sort otherwise", "조건에 맞는 상품이 너무 많아 이 순서로 정렬할 수 없습니다. 조건을 좁히거나 다른 정렬을 사용해 주세요";
    Unauthenticated UNAUTHORIZED "UNAUTHENTICATED", "nobody is signed in", "로그인이 필요합니다";
    Forbidden FORBIDDEN "FORBIDDEN", "the caller may not do this", "권한이 없습니다";
    NoRoute NOT_FOUND "NOT_FOUND", "no such route", "없는 경로입니다";
    NoProduct NOT_FOUND "PRODUCT_NOT_FOUND", "no such product", "상품을 찾을 수 없습니다";
    NoOrder NOT_FOUND "ORDER_NOT_FOUND", "no such order", "주문을 찾을 수 없습니다";
    NoMethod METHOD_NOT_ALLOWED "METHOD_NOT_ALLOWED", "no such method on this route", "허용되지 않는 메서드입니다";
    SoldOut CONFLICT "SOLD_OUT", "not enough in stock", "재고가 부족합니다";
    IdempotencyKeyReused CONFLICT "IDEMPOTENCY_KEY_REUSED", "the idempotency key was used for another request", "이미 다른 요청에 사용된 Idempotency-Key입니다";
    CodeTaken CONFLICT "CODE_TAKEN", "a product with this code exists", "이미 존재하는 상품 코드입니다";
    VersionChanged CONFLICT "VERSION_CHANGED", "the stock has another version by now", "재고가 그 사이에 변경되었습니다";
    BodyTooLarge PAYLOAD_TOO_LARGE "BODY_TOO_LARGE", "the body is too large", "요청 본문이 너무 큽니다";
    UnsupportedMediaType UNSUPPORTED_MEDIA_TYPE "UNSUPPORTED_MEDIA_TYPE", "the body is not of type application/json", "요청 본문은 application/json이어야 합니다";
    TooManyRequests TOO_MANY_REQUESTS "TOO_MANY_REQUESTS", "too many requests of one address or caller; Retry-After says when to come again", "요청이 너무 잦습니다. Retry-After에 표시된 시간 이후에 다시 시도해 주세요";
    Overloaded SERVICE_UNAVAILABLE "OVERLOADED", "too many requests at once", "요청이 너무 많습니다. 잠시 후 다시 시도해 주세요";
    TimedOut SERVICE_UNAVAILABLE "TIMED_OUT", "the request took too long", "요청 처리 시간이 초과되었습니다. 잠시 후 다시 시도해 주세요";
    Away SERVICE_UNAVAILABLE "UNAVAILABLE", "not available for the moment", "일시적으로 사용할 수 없습니다. 잠시 후 다시 시도해 주세요";
    Internal INTERNAL_SERVER_ERROR "INTERNAL", "internal error", "내부 오류가 발생했습니다";
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Stable; docs/http-api.md says what each means."))
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

impl ToSchema for ErrorCode {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ErrorCode;

    /// What operators and clients read.
    const MANUAL: &str = include_str!("../../../docs/http-api.md");

    #[test]
    fn no_two_rows_of_the_table_share_a_code() {
        let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn the_manual_lists_every_code_with_its_status_and_no_other() {
        let listed: BTreeSet<(u16, &str)> = MANUAL
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split_once(" | `"))
            .filter_map(|(status, rest)| Some((status.parse().ok()?, rest.split_once('`')?.0)))
            .collect();
        let known: BTreeSet<(u16, &str)> =
            ErrorCode::ALL.iter().map(|code| (code.status().as_u16(), code.as_str())).collect();
        assert_eq!(listed, known);
    }
}
