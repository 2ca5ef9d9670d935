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
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::error_code::ErrorCode;

/// A successful answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Success<T> {
    meta: SuccessMeta,
    data: T,
}

/// Says that the answer is one.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SuccessMeta {
    #[schema(pattern = "^SUCCESS$")]
    result: &'static str,
    #[schema(value_type = (), nullable)]
    error_code: (),
    #[schema(value_type = (), nullable)]
    message: (),
}

/// A refusal or a failure.
#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    meta: FailureMeta,
    /// What a client can act on: `productIds`, `codes`, `version` or `productsMax`, by the code; else null.
    #[schema(value_type = Option<Object>)]
    data: Value,
}

/// Says why there is no answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FailureMeta {
    #[schema(pattern = "^FAIL$")]
    result: &'static str,
    error_code: ErrorCode,
    /// For people, in the language of `Content-Language`.
    message: &'static str,
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

/// Answers with data.
pub(crate) fn success<T: Serialize>(status: StatusCode, data: T) -> Response {
    let meta = SuccessMeta { result: "SUCCESS", error_code: (), message: () };
    (status, Json(Success { meta, data })).into_response()
}

/// Marks the response; [`render`] writes the body, where the language is known.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code().status().into_response();
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
    let code = error.code();
    let message = match language {
        Language::English => code.english(),
        Language::Korean => code.korean(),
    };
    let meta = FailureMeta { result: "FAIL", error_code: code, message };
    let mut response = (code.status(), Json(Failure { meta, data: details(error) })).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    let wait = match error {
        ApiError::TooManyRequests { retry_after } => Some(*retry_after),
        _ => (code.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(retry_after),
    };
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    response
}

/// The first whole second at which the time is over, never the running one.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// What clients can act on.
fn details(error: &ApiError) -> Value {
    match error {
        ApiError::NoProduct { product_ids } | ApiError::SoldOut { product_ids } => {
            json!({ "productIds": product_ids })
        }
        ApiError::CodeTaken { codes } => json!({ "codes": codes }),
        ApiError::VersionChanged { version } => json!({ "version": version }),
        ApiError::FilterTooWide { products_max } => json!({ "productsMax": products_max }),
        ApiError::Invalid(_)
        | ApiError::Unauthenticated
        | ApiError::Forbidden
        | ApiError::NoRoute
        | ApiError::NoMethod
        | ApiError::NoOrder
        | ApiError::IdempotencyKeyReused
        | ApiError::BodyTooLarge
        | ApiError::UnsupportedMediaType
        | ApiError::TooManyRequests { .. }
        | ApiError::Overloaded
        | ApiError::TimedOut
        | ApiError::Away(_)
        | ApiError::Internal(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::header::ACCEPT_LANGUAGE;
    use axum::http::{HeaderMap, HeaderValue};

    use super::{Language, whole_seconds};

    #[test]
    fn who_waits_as_long_as_he_is_told_has_waited_long_enough() {
        for (millis, told) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (9_999, 10), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), told, "{millis}");
        }
    }

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
