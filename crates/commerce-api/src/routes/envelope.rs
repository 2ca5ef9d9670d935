//! What answers look like: `{"meta":{"result","errorCode","message"},"data"}`, in the caller's language.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_LANGUAGE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::language::Language;

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

/// Writes the body of an [`ApiError`].
pub(crate) fn render(error: &ApiError, language: Language, retry_after: Duration) -> Response {
    let code = error.code();
    let meta = FailureMeta { result: "FAIL", error_code: code, message: code.message(language) };
    let mut response = (code.status(), Json(Failure { meta, data: details(error) })).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    if let Some(wait) = wait(error, retry_after) {
        headers.insert(RETRY_AFTER, wait);
    }
    response
}

/// `Retry-After` of an error that passes.
pub(crate) fn wait(error: &ApiError, retry_after: Duration) -> Option<HeaderValue> {
    let wait = match error {
        ApiError::TooManyRequests { retry_after } => Some(*retry_after),
        _ => (error.code().status() == StatusCode::SERVICE_UNAVAILABLE).then_some(retry_after),
    };
    wait.map(|wait| HeaderValue::from(whole_seconds(wait)))
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

    use super::whole_seconds;

    #[test]
    fn who_waits_as_long_as_he_is_told_has_waited_long_enough() {
        for (millis, told) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (9_999, 10), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), told, "{millis}");
        }
    }
}
