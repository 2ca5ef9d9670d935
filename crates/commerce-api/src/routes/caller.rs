//! Who calls: the one place that answers it, for every route.
//!
//! `auth.mode` says whose word counts, and what the other mode reads is ignored as if it were not there. A gateway's
//! headers count from a gateway only; a token counts from anywhere. Nothing of a token stands in any error.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use tokio::time::timeout;

use super::extract::{Repeated, only};
use crate::App;
use crate::domain::request::parse_id;
use crate::error::ApiError;
use crate::settings::AuthMode;
use crate::tokens::Grant;

const USER_ID: &str = "x-user-id";
const USER_ROLE: &str = "x-user-role";
/// The role that may change products.
const ADMIN: &[u8] = b"admin";
/// The scheme of a token, in either case of letters.
const BEARER: &str = "bearer";

/// Somebody who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user_id: i64,
    /// May do what buyers do for themselves.
    pub(crate) is_buyer: bool,
    /// May do what the merchant does.
    pub(crate) is_admin: bool,
}

impl From<Grant> for Caller {
    fn from(grant: Grant) -> Self {
        let Grant { user_id, scopes, .. } = grant;
        Self { user_id, is_buyer: scopes.is_buyer, is_admin: scopes.is_admin }
    }
}

/// Who calls; `None` when nobody says. Counts as a request of his.
///
/// # Errors
/// [`ApiError::Unauthenticated`] when what is said is worth nothing, [`ApiError::Forbidden`] when somebody speaks as a gateway
/// who is none, [`ApiError::TooManyRequests`]; else when a token cannot be checked now.
pub(super) async fn find_caller(parts: &Parts, app: &App) -> Result<Option<Caller>, ApiError> {
    admitted(identify(parts, app).await?, app)
}

/// Who looks at a public page, which is open whatever he says: what is not believed, or cannot be checked in time, is not
/// there.
///
/// # Errors
/// [`ApiError::TooManyRequests`].
pub(super) async fn find_visitor(parts: &Parts, app: &App) -> Result<Option<Caller>, ApiError> {
    let visitor = match timeout(app.auth.visitor_wait, identify(parts, app)).await {
        Ok(Ok(caller)) => caller,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a page is served as to nobody in particular");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(
                "a page is served as to nobody in particular: the check of a token took too long"
            );
            None
        }
    };
    admitted(visitor, app)
}

fn admitted(caller: Option<Caller>, app: &App) -> Result<Option<Caller>, ApiError> {
    if let Some(caller) = caller {
        app.rates.admit_caller(caller.user_id)?;
    }
    Ok(caller)
}

async fn identify(parts: &Parts, app: &App) -> Result<Option<Caller>, ApiError> {
    match app.auth.mode {
        AuthMode::Gateway => named_by_gateway(parts, app),
        AuthMode::Token => match bearer(&parts.headers)? {
            Some(text) => Ok(Some(app.tokens.check(text).await?.into())),
            None => Ok(None),
        },
    }
}

fn named_by_gateway(parts: &Parts, app: &App) -> Result<Option<Caller>, ApiError> {
    let Some(value) = only(&parts.headers, USER_ID).map_err(|Repeated| ApiError::Unauthenticated)? else {
        return Ok(None);
    };
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    if !peer.is_some_and(|peer| app.auth.is_gateway(peer)) {
        return Err(ApiError::Forbidden);
    }
    let id = value.to_str().ok().and_then(|text| parse_id(text).ok());
    let user_id = id.ok_or(ApiError::Unauthenticated)?;
    // A role that is given twice is none.
    let role = only(&parts.headers, USER_ROLE).ok().flatten();
    let is_admin = role.is_some_and(|role| role.as_bytes() == ADMIN);
    Ok(Some(Caller { user_id, is_buyer: true, is_admin }))
}

/// The token that the headers show.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let value = only(headers, AUTHORIZATION.as_str()).map_err(|Repeated| ApiError::Unauthenticated)?;
    value.map(|value| text_of(value).ok_or(ApiError::Unauthenticated)).transpose()
}

fn text_of(value: &HeaderValue) -> Option<&str> {
    let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| text.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;
    use axum::http::{HeaderMap, HeaderValue};

    use super::bearer;

    #[test]
    fn a_token_is_shown_once_by_its_scheme() {
        for (value, shown) in [
            ("Bearer ct_a", Some("ct_a")),
            ("bEARER   ct_a", Some("ct_a")),
            ("Bearer ct_a b", Some("ct_a b")),
            ("Bearer", None),
            ("ct_a", None),
            ("Basic ct_a", None),
            ("Bearer\tct_a", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(bearer(&headers).ok().flatten(), shown, "{value}");
            assert!(!matches!(bearer(&headers), Ok(None)), "{value}: something is said");
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            assert!(bearer(&headers).is_err(), "{value} twice");
        }
        assert!(matches!(bearer(&HeaderMap::new()), Ok(None)));
    }
}
