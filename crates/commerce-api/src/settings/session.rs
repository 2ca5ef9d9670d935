//! `[session]`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, refuse};

/// Whether cookies go over TLS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CookieSecurity {
    /// Unless the api listens on a loopback address.
    Auto,
    /// Always.
    Always,
    /// Never: for a network that is trusted as a whole.
    Never,
}

/// `[session]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// How long a session lasts.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// Sessions that one token may have.
    pub per_token_max: u32,
    /// Whether cookies go over TLS only.
    pub secure_cookies: CookieSecurity,
}

impl SessionSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`SettingsError`] names the key.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.lifetime < Duration::from_secs(1) {
            return refuse("session.lifetime", "must be at least 1s");
        }
        if self.per_token_max == 0 {
            return refuse("session.per_token_max", "must be at least 1");
        }
        Ok(())
    }

    /// Whether cookies go over TLS only, for a server that listens there.
    pub(crate) fn are_cookies_secure(&self, listen: SocketAddr) -> bool {
        match self.secure_cookies {
            CookieSecurity::Auto => !listen.ip().to_canonical().is_loopback(),
            CookieSecurity::Always => true,
            CookieSecurity::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CookieSecurity, SessionSettings};

    const ORDINARY: SessionSettings = SessionSettings {
        lifetime: Duration::from_secs(60),
        per_token_max: 1,
        secure_cookies: CookieSecurity::Auto,
    };

    #[test]
    fn cookies_are_secure_unless_only_this_machine_is_served() {
        for (listen, expected) in [
            ("127.0.0.1:80", false),
            ("[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("10.0.0.1:80", true),
        ] {
            assert_eq!(ORDINARY.are_cookies_secure(listen.parse().unwrap()), expected, "{listen}");
        }
        let loopback = "127.0.0.1:80".parse().unwrap();
        let secured = SessionSettings { secure_cookies: CookieSecurity::Always, ..ORDINARY };
        assert!(secured.are_cookies_secure(loopback));
        let never = SessionSettings { secure_cookies: CookieSecurity::Never, ..ORDINARY };
        assert!(!never.are_cookies_secure("0.0.0.0:80".parse().unwrap()));
    }

    #[test]
    fn a_session_needs_a_lifetime_and_a_place() {
        ORDINARY.validate().unwrap();
        let short = SessionSettings { lifetime: Duration::from_millis(999), ..ORDINARY };
        assert_eq!(short.validate().unwrap_err().key, "session.lifetime");
        let none = SessionSettings { per_token_max: 0, ..ORDINARY };
        assert_eq!(none.validate().unwrap_err().key, "session.per_token_max");
    }
}
