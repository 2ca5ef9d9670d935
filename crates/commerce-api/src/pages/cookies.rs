//! The cookies of the storefront, but for the language.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::locale::cookie;
use crate::domain::secret::Secret;
use crate::error::ApiError;

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is the session's.
    Session,
    /// It seals the form by which a stranger signs in.
    Entry,
}

/// How cookies are set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cookies {
    /// Over TLS only, and then under a name that no other host of the domain can set.
    is_secure: bool,
}

impl Cookies {
    pub(crate) const fn new(is_secure: bool) -> Self {
        Self { is_secure }
    }

    const fn name(self, purpose: Purpose) -> &'static str {
        match (purpose, self.is_secure) {
            (Purpose::Session, true) => "__Host-session",
            (Purpose::Session, false) => "session",
            (Purpose::Entry, true) => "__Host-entry",
            (Purpose::Entry, false) => "entry",
        }
    }

    /// The secret that the browser shows.
    pub(super) fn find(self, headers: &HeaderMap, purpose: Purpose) -> Option<Secret> {
        cookie(headers, self.name(purpose)).and_then(Secret::shown)
    }

    /// `Set-Cookie`; without a lifetime it lasts until the browser is closed.
    ///
    /// # Errors
    /// When it is no header, which is a bug.
    pub(super) fn keep(
        self,
        purpose: Purpose,
        secret: &Secret,
        lifetime: Option<Duration>,
    ) -> Result<HeaderValue, ApiError> {
        self.set(purpose, secret.reveal(), lifetime)
    }

    /// `Set-Cookie` that takes the cookie away.
    ///
    /// # Errors
    /// When it is no header, which is a bug.
    pub(super) fn forget(self, purpose: Purpose) -> Result<HeaderValue, ApiError> {
        self.set(purpose, "", Some(Duration::ZERO))
    }

    fn set(self, purpose: Purpose, text: &str, lifetime: Option<Duration>) -> Result<HeaderValue, ApiError> {
        let name = self.name(purpose);
        let age = lifetime.map(|lifetime| format!("; Max-Age={}", lifetime.as_secs())).unwrap_or_default();
        let secure = if self.is_secure { "; Secure" } else { "" };
        let text = format!("{name}={text}; Path=/{age}; HttpOnly; SameSite=Lax{secure}");
        let mut value = HeaderValue::from_str(&text).map_err(|error| ApiError::Internal(error.into()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cookies, Purpose};
    use crate::domain::secret::Secret;

    #[test]
    fn a_cookie_is_out_of_reach_for_scripts_and_other_hosts() {
        let secret = Secret::shown(&"A".repeat(43)).unwrap();
        let day = Some(Duration::from_secs(86_400));
        let kept = Cookies::new(true).keep(Purpose::Session, &secret, day).unwrap();
        let expected = format!(
            "__Host-session={}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure",
            secret.reveal()
        );
        assert_eq!(kept.to_str().unwrap(), expected);
        assert!(kept.is_sensitive());
        let plain = Cookies::new(false).keep(Purpose::Entry, &secret, None).unwrap();
        assert_eq!(
            plain.to_str().unwrap(),
            format!("entry={}; Path=/; HttpOnly; SameSite=Lax", secret.reveal())
        );
        let gone = Cookies::new(false).forget(Purpose::Session).unwrap();
        assert_eq!(gone.to_str().unwrap(), "session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    }
}
