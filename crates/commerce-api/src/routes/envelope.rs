//! What answers look like: `{"meta":{"result","errorCode","message"},"data"}`, in the caller's language.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::ApiError;

#[derive(Serialize)]
struct Envelope<T> {
    meta: Meta,
    data: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    result: &'static str,
    error_code: Option<&'static str>,
    message: Option<String>,
}

/// Languages that messages exist in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Korean,
}

impl Language {
    /// The one of ours that `Accept-Language` likes best; English when it names neither.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut best = (0.0, Self::English);
        for range in accepted.split(',') {
            let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            let language = match tag.trim().split('-').next().unwrap_or_default() {
                primary if primary.eq_ignore_ascii_case("ko") => Self::Korean,
                primary if primary.eq_ignore_ascii_case("en") => Self::English,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }

    const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }
}

/// A successful answer.
pub(crate) fn success<T: Serialize>(status: StatusCode, data: T) -> Response {
    let meta = Meta { result: "SUCCESS", error_code: None, message: None };
    (status, Json(Envelope { meta, data })).into_response()
}

/// Marks the response; [`render`] writes the body, where the language is known.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = status(&self);
        let mut response = status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// A panic of a handler, as an answer.
pub(crate) fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::Internal("a handler panicked".into()).into_response()
}

/// Writes the body of an [`ApiError`].
pub(crate) fn render(error: &ApiError, language: Language, retry_after: Duration) -> Response {
    let message = match language {
        Language::English => english(error),
        Language::Korean => korean(error).to_owned(),
    };
    let meta = Meta { result: "FAIL", error_code: Some(code(error)), message: Some(message) };
    let mut response = (status(error), Json(Envelope { meta, data: details(error) })).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    if status(error) == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
    }
    response
}

fn status(error: &ApiError) -> StatusCode {
    match error {
        ApiError::Invalid(_) => StatusCode::BAD_REQUEST,
        ApiError::Unauthenticated => StatusCode::UNAUTHORIZED,
        ApiError::Forbidden => StatusCode::FORBIDDEN,
        ApiError::NoRoute | ApiError::NoProduct { .. } | ApiError::NoOrder => StatusCode::NOT_FOUND,
        ApiError::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
        ApiError::SoldOut { .. } | ApiError::IdempotencyKeyReused | ApiError::CodeTaken { .. } => {
            StatusCode::CONFLICT
        }
        ApiError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ApiError::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ApiError::Overloaded | ApiError::TimedOut | ApiError::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
        ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn code(error: &ApiError) -> &'static str {
    match error {
        ApiError::Invalid(input) => input.code(),
        ApiError::Unauthenticated => "UNAUTHENTICATED",
        ApiError::Forbidden => "FORBIDDEN",
        ApiError::NoRoute => "NOT_FOUND",
        ApiError::NoMethod => "METHOD_NOT_ALLOWED",
        ApiError::NoProduct { .. } => "PRODUCT_NOT_FOUND",
        ApiError::NoOrder => "ORDER_NOT_FOUND",
        ApiError::SoldOut { .. } => "SOLD_OUT",
        ApiError::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
        ApiError::CodeTaken { .. } => "CODE_TAKEN",
        ApiError::BodyTooLarge => "BODY_TOO_LARGE",
        ApiError::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
        ApiError::Overloaded => "OVERLOADED",
        ApiError::TimedOut => "TIMED_OUT",
        ApiError::Away(_) => "UNAVAILABLE",
        ApiError::Internal(_) => "INTERNAL",
    }
}

/// The error's own text; sources stay in the log.
fn english(error: &ApiError) -> String {
    match error {
        ApiError::Invalid(input) => input.to_string(),
        other => other.to_string(),
    }
}

fn korean(error: &ApiError) -> &'static str {
    match error {
        ApiError::Invalid(input) => input.korean(),
        ApiError::Unauthenticated => "로그인이 필요합니다",
        ApiError::Forbidden => "권한이 없습니다",
        ApiError::NoRoute => "없는 경로입니다",
        ApiError::NoMethod => "허용되지 않는 메서드입니다",
        ApiError::NoProduct { .. } => "상품을 찾을 수 없습니다",
        ApiError::NoOrder => "주문을 찾을 수 없습니다",
        ApiError::SoldOut { .. } => "재고가 부족합니다",
        ApiError::IdempotencyKeyReused => "이미 다른 요청에 사용된 Idempotency-Key입니다",
        ApiError::CodeTaken { .. } => "이미 존재하는 상품 코드입니다",
        ApiError::BodyTooLarge => "요청 본문이 너무 큽니다",
        ApiError::UnsupportedMediaType => "요청 본문은 application/json이어야 합니다",
        ApiError::Overloaded => "요청이 너무 많습니다. 잠시 후 다시 시도해 주세요",
        ApiError::TimedOut => "요청 처리 시간이 초과되었습니다. 잠시 후 다시 시도해 주세요",
        ApiError::Away(_) => "일시적으로 사용할 수 없습니다. 잠시 후 다시 시도해 주세요",
        ApiError::Internal(_) => "내부 오류가 발생했습니다",
    }
}

/// What clients can act on.
fn details(error: &ApiError) -> Value {
    match error {
        ApiError::NoProduct { product_ids } | ApiError::SoldOut { product_ids } => {
            json!({ "productIds": product_ids })
        }
        ApiError::CodeTaken { codes } => json!({ "codes": codes }),
        ApiError::Invalid(_)
        | ApiError::Unauthenticated
        | ApiError::Forbidden
        | ApiError::NoRoute
        | ApiError::NoMethod
        | ApiError::NoOrder
        | ApiError::IdempotencyKeyReused
        | ApiError::BodyTooLarge
        | ApiError::UnsupportedMediaType
        | ApiError::Overloaded
        | ApiError::TimedOut
        | ApiError::Away(_)
        | ApiError::Internal(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::ACCEPT_LANGUAGE;
    use axum::http::{HeaderMap, HeaderValue};

    use super::Language;

    #[test]
    fn the_best_accepted_language_of_ours_is_chosen() {
        for (accepted, language) in [
            ("", Language::English),
            ("ko", Language::Korean),
            ("ko-KR,ko;q=0.9,en;q=0.8", Language::Korean),
            ("en;q=0.2, KO;q=0.9", Language::Korean),
            ("en,ko;q=0.9", Language::English),
            ("fr, ko;q=0.1", Language::Korean),
            ("ko;q=x", Language::English),
            ("*;q=;,,;;ko;q=0", Language::English),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(accepted));
            assert_eq!(Language::of(&headers), language, "{accepted}");
        }
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }
}
