//! Why a request was not served: the one error type of commands and routes.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use outbox::AppendError;
use thiserror::Error;

use crate::domain::InvalidInput;
use crate::event_log::EventLogError;
use crate::store::StoreError;

/// A refused or failed request. How it looks on the wire stands in `routes::envelope`.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    #[error("invalid request")]
    Invalid(#[from] InvalidInput),
    #[error("nobody is signed in")]
    Unauthenticated,
    #[error("the caller may not do this")]
    Forbidden,
    #[error("no such route")]
    NoRoute,
    #[error("no such method on this route")]
    NoMethod,
    #[error("no such product")]
    NoProduct { product_ids: Vec<i64> },
    #[error("no such order")]
    NoOrder,
    #[error("not enough in stock")]
    SoldOut { product_ids: Vec<i64> },
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    #[error("a product with this code exists")]
    CodeTaken { codes: Vec<String> },
    #[error("the body is too large")]
    BodyTooLarge,
    #[error("the body is not of type application/json")]
    UnsupportedMediaType,
    #[error("too many requests at once")]
    Overloaded,
    #[error("the request took too long")]
    TimedOut,
    #[error("not available for the moment")]
    Away(#[source] Arc<StoreError>),
    #[error("internal error")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
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
