//! Why a request was not served: the one error type of commands and routes.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use outbox::AppendError;
use thiserror::Error;

use crate::domain::InvalidInput;
use crate::error_code::ErrorCode;
use crate::event_log::EventLogError;
use crate::language::Language;
use crate::store::StoreError;

/// A refused or failed request. How it looks on the wire stands in [`ErrorCode`]'s table.
#[derive(Debug, Error)]
#[error("{}", self.code().message(Language::English))]
pub(crate) enum ApiError {
    Invalid(#[from] InvalidInput),
    Unauthenticated,
    Forbidden,
    NoRoute,
    NoMethod,
    NoProduct { product_ids: Vec<i64> },
    NoOrder,
    SoldOut { product_ids: Vec<i64> },
    IdempotencyKeyReused,
    CodeTaken { codes: Vec<String> },
    VersionChanged { version: i64 },
    FilterTooWide { products_max: usize },
    BodyTooLarge,
    UnsupportedMediaType,
    TooManyRequests { retry_after: Duration },
    Overloaded,
    TimedOut,
    Away(#[source] Arc<StoreError>),
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl ApiError {
    /// The row of the table that answers it.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(input) => input.code(),
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::Forbidden => ErrorCode::Forbidden,
            Self::NoRoute => ErrorCode::NoRoute,
            Self::NoMethod => ErrorCode::NoMethod,
            Self::NoProduct { .. } => ErrorCode::NoProduct,
            Self::NoOrder => ErrorCode::NoOrder,
            Self::SoldOut { .. } => ErrorCode::SoldOut,
            Self::IdempotencyKeyReused => ErrorCode::IdempotencyKeyReused,
            Self::CodeTaken { .. } => ErrorCode::CodeTaken,
            Self::VersionChanged { .. } => ErrorCode::VersionChanged,
            Self::FilterTooWide { .. } => ErrorCode::FilterTooWide,
            Self::BodyTooLarge => ErrorCode::BodyTooLarge,
            Self::UnsupportedMediaType => ErrorCode::UnsupportedMediaType,
            Self::TooManyRequests { .. } => ErrorCode::TooManyRequests,
            Self::Overloaded => ErrorCode::Overloaded,
            Self::TimedOut => ErrorCode::TimedOut,
            Self::Away(_) => ErrorCode::Away,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }
}

/// An error with its sources, on one line for the log.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Arc::new(error).into()
    }
}

impl From<Arc<StoreError>> for ApiError {
    fn from(error: Arc<StoreError>) -> Self {
        match *error {
            StoreError::Busy => Self::Overloaded,
            StoreError::Away(_) => Self::Away(error),
            StoreError::Refused { .. } | StoreError::Statement(_) => Self::Internal(error.into()),
        }
    }
}

impl From<EventLogError> for ApiError {
    fn from(error: EventLogError) -> Self {
        match error {
            EventLogError::Append(AppendError::Database(error)) => StoreError::from(error).into(),
            other => Self::Internal(other.into()),
        }
    }
}
