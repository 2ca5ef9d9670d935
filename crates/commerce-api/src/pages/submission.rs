//! A form that a page of ours sent: the only way in which a page's handler gets at a body.
//!
//! A browser sends the buyer's identity with whatever makes it send a request, so each form has to prove that a page of this
//! shop made it (cross-site request forgery).

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, Request};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::App;
use crate::domain::InvalidInput;
use crate::error::ApiError;

/// Where a request comes from, as browsers say it to secure origins.
const FETCH_SITE: &str = "sec-fetch-site";

/// The fields of a form of ours.
pub(super) struct Submission<T>(pub(super) T);

/// A form without fields.
#[derive(serde::Deserialize)]
pub(super) struct NoFields {}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Submission<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        if !is_own(request.headers()) {
            return Err(ApiError::Forbidden);
        }
        let Form(fields) = Form::<T>::from_request(request, app).await.map_err(refusal)?;
        Ok(Self(fields))
    }
}

fn refusal(rejection: FormRejection) -> ApiError {
    match rejection {
        FormRejection::InvalidFormContentType(_) => ApiError::UnsupportedMediaType,
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge,
        _ => InvalidInput::Body.into(),
    }
}

/// Whether the browser says that the request comes from a page of this origin. Every browser says it in one of two headers;
/// who says nothing is no browser with a form of ours.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(FETCH_SITE) {
        return site == "same-origin";
    }
    let host = text(HOST.as_str()).unwrap_or_default();
    let origin = text(ORIGIN.as_str()).unwrap_or_default();
    let origin = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    !host.is_empty() && origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::is_own;

    #[test]
    fn only_a_page_of_this_origin_sends_a_form() {
        for (headers, expected) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "null"), ("host", "shop")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://shop"), ("host", "shop")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "")], false),
            (vec![("origin", "https://shop:8080"), ("host", "shop:8080")], true),
            (vec![("origin", "http://SHOP"), ("host", "shop")], true),
            (vec![("origin", "http://shop.evil"), ("host", "shop")], false),
            (vec![("origin", "http://evil"), ("host", "shop")], false),
            (vec![("origin", "http://shop:81"), ("host", "shop:80")], false),
            (vec![("origin", "null"), ("host", "null")], false),
            (vec![("origin", "http://"), ("host", "")], false),
            (vec![("host", "shop")], false),
            (vec![], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(is_own(&map), expected, "{headers:?}");
        }
    }
}
