//! Parts of requests, checked: callers, ids, pages, bodies.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::rejection::FailedToBufferBody::LengthLimitError;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use commerce_events::json::Object;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::caller::{Caller, find_caller, find_visitor};
use crate::App;
use crate::commands::Context;
use crate::domain::InvalidInput;
use crate::domain::filter::Filter;
use crate::domain::page::{Page, Sort};
use crate::domain::ranking::{Period, Window, parse_date};
use crate::domain::request::{check_idempotency_key, is_traceparent, parse_id};
use crate::error::ApiError;

const TRACEPARENT: &str = "traceparent";
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The id in the path.
pub(crate) struct PathId(pub(crate) i64);

impl FromRequestParts<Arc<App>> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, ApiError> {
        // Refused also when the path's escapes are not UTF-8.
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|_| InvalidInput::Id)?;
        Ok(Self(parse_id(&text)?))
    }
}

/// A signed-in buyer.
pub(crate) struct Buyer(pub(crate) Context);

impl FromRequestParts<Arc<App>> for Buyer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = find_caller(parts, app).await?.ok_or(ApiError::Unauthenticated)?;
        if !caller.is_buyer {
            return Err(ApiError::Forbidden);
        }
        Ok(Self(context(&caller, parts, app)))
    }
}

/// Whoever looks at a page: a buyer, or nobody in particular.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) user_id: Option<i64>,
    pub(crate) traceparent: Option<String>,
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = find_visitor(parts, app).await?;
        Ok(Self { user_id: caller.map(|caller| caller.user_id), traceparent: traceparent(&parts.headers) })
    }
}

/// The merchant.
pub(crate) struct Admin(pub(crate) Context);

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = find_caller(parts, app).await?.ok_or(ApiError::Unauthenticated)?;
        if !caller.is_admin {
            return Err(ApiError::Forbidden);
        }
        Ok(Self(context(&caller, parts, app)))
    }
}

fn context(caller: &Caller, parts: &Parts, app: &App) -> Context {
    let user_id = caller.user_id;
    Context { user_id, now: app.shop.now(), traceparent: traceparent(&parts.headers) }
}

/// The client's key for an order, if it sent one.
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl FromRequestParts<Arc<App>> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let key = only(&parts.headers, IDEMPOTENCY_KEY).map_err(|Repeated| InvalidInput::IdempotencyKey)?;
        let Some(key) = key else { return Ok(Self(None)) };
        let key = check_idempotency_key(key.as_bytes(), app.settings.idempotency_key_bytes_max)?;
        Ok(Self(Some(key.to_owned())))
    }
}

/// Which slice of a list.
pub(crate) struct Slice(pub(crate) Page);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SliceQuery {
    /// From 0.
    page: Option<usize>,
    /// Rows of a page.
    size: Option<usize>,
}

impl FromRequestParts<Arc<App>> for Slice {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let query: SliceQuery = query(parts, app).await?;
        Ok(Self(Page::new(query.page, query.size, app.settings.page_limits())?))
    }
}

/// Which slice of the products, which of them, in which order.
pub(crate) struct Listing {
    pub(crate) page: Page,
    pub(crate) sort: Sort,
    pub(crate) filter: Filter,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListingQuery {
    /// From 0.
    page: Option<usize>,
    /// Rows of a page.
    size: Option<usize>,
    /// `latest` when none is named.
    sort: Option<Sort>,
    /// Exactly this brand.
    pub(crate) brand: Option<String>,
    /// Part of the name, in either case of letters.
    pub(crate) q: Option<String>,
}

impl ListingQuery {
    /// As a form is filled in: a field that is left blank asks for nothing.
    pub(crate) fn without_blanks(mut self) -> Self {
        let is_filled = |text: &String| !text.trim().is_empty();
        self.brand = self.brand.filter(is_filled);
        self.q = self.q.filter(is_filled);
        self
    }
}

impl Listing {
    /// What `query` asks for.
    ///
    /// # Errors
    /// A rule that it breaks.
    pub(crate) fn new(query: ListingQuery, app: &App) -> Result<Self, InvalidInput> {
        let page = Page::new(query.page, query.size, app.settings.page_limits())?;
        let filter = Filter::new(query.brand, query.q.as_deref(), app.settings.filter_limits())?;
        Ok(Self { page, sort: query.sort.unwrap_or(Sort::Latest), filter })
    }
}

impl FromRequestParts<Arc<App>> for Listing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self::new(query(parts, app).await?, app)?)
    }
}

/// Which ranking, and which slice of it.
pub(crate) struct RankingSlice {
    pub(crate) window: Window,
    pub(crate) page: Page,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RankingQuery {
    /// A day of Seoul as `yyyyMMdd`; today when none is named.
    #[param(pattern = "^[0-9]{8}$")]
    date: Option<String>,
    /// Of an hourly ranking; the running one today, else the last one when none is named.
    #[param(minimum = 0, maximum = 23)]
    hour: Option<u32>,
    /// `daily` when none is named.
    period: Option<Period>,
    /// From 0.
    page: Option<usize>,
    /// Rows of a page.
    size: Option<usize>,
}

impl FromRequestParts<Arc<App>> for RankingSlice {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let query: RankingQuery = query(parts, app).await?;
        let date = query.date.as_deref().map(parse_date).transpose()?;
        let period = query.period.unwrap_or(Period::Daily);
        let window = Window::new(period, date, query.hour, app.shop.now())?;
        let mut limits = app.settings.page_limits();
        limits.depth_max = limits.depth_max.min(app.ranked_max);
        Ok(Self { window, page: Page::new(query.page, query.size, limits)? })
    }
}

/// The query, read as `T`.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self(query(parts, app).await?))
    }
}

async fn query<T: DeserializeOwned + Send>(parts: &mut Parts, app: &Arc<App>) -> Result<T, ApiError> {
    let Query(query) = Query::<T>::from_request_parts(parts, app).await.map_err(|_| InvalidInput::Query)?;
    Ok(query)
}

/// A JSON object of type `T`.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        if !is_json(request.headers().get(CONTENT_TYPE)) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = body(request, app).await?;
        // serde_json bounds the depth by itself.
        let Object(body) = serde_json::from_slice(&bytes).map_err(|_| InvalidInput::Body)?;
        Ok(Self(body))
    }
}

/// The bytes of a body within its limit.
pub(crate) async fn body(request: Request, app: &Arc<App>) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, app).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(LengthLimitError(_)) => ApiError::BodyTooLarge,
        _ => InvalidInput::Body.into(),
    })
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let text = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

/// A header was given more than once; which of its values a proxy checked is anybody's guess.
pub(super) struct Repeated;

pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Repeated),
    }
}

/// Passed on when valid, else left out: tracing never decides about a request.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    is_traceparent(text).then(|| text.to_owned())
}
