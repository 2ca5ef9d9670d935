//! `[auth]`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{SettingsError, refuse};
use crate::remembered::MemoryLimits;

/// How callers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// A gateway in front says who calls, by `X-USER-ID` and `X-USER-ROLE`; `Authorization` is ignored.
    Gateway,
    /// A token says who calls, by `Authorization: Bearer`; `X-USER-ID` and `X-USER-ROLE` are ignored.
    Token,
}

/// `[auth]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// How callers are told apart.
    pub mode: AuthMode,
    /// Peers that call for many: their `X-USER-*` headers are believed in [`AuthMode::Gateway`], and no limit by address
    /// counts for them.
    pub gateway_networks: Vec<IpNet>,
    /// Tokens whose answers are remembered.
    pub tokens_cached_max: usize,
    /// How old an answer about a token may be.
    #[serde(with = "humantime_serde")]
    pub token_age_max: Duration,
    /// How long a public page waits for the answer about a token before it is served as to nobody.
    #[serde(with = "humantime_serde")]
    pub visitor_wait: Duration,
    /// The longest life of a token that is issued.
    #[serde(with = "humantime_serde")]
    pub token_lifetime_max: Duration,
}

/// The highest `auth.token_age_max`: a token that is revoked is refused within a second.
const TOKEN_AGE_CEILING: Duration = Duration::from_secs(1);

impl AuthSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`SettingsError`] names the key.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.tokens_cached_max == 0 {
            return refuse("auth.tokens_cached_max", "must be at least 1");
        }
        if self.token_age_max > TOKEN_AGE_CEILING {
            return refuse("auth.token_age_max", "must not exceed 1s: so long a revoked token is believed");
        }
        Ok(())
    }

    /// Whether this peer is a gateway.
    pub(crate) fn is_gateway(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.gateway_networks.iter().any(|network| network.contains(&peer))
    }

    pub(crate) fn token_limits(&self, queue_max: usize) -> MemoryLimits {
        MemoryLimits { entries_max: self.tokens_cached_max, age_max: self.token_age_max, queue_max }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AuthMode, AuthSettings};

    fn auth() -> AuthSettings {
        let networks = ["127.0.0.0/8", "::1/128", "10.1.0.0/16"];
        AuthSettings {
            mode: AuthMode::Gateway,
            gateway_networks: networks.map(|network| network.parse().unwrap()).to_vec(),
            tokens_cached_max: 1,
            token_age_max: Duration::from_secs(1),
            visitor_wait: Duration::ZERO,
            token_lifetime_max: Duration::from_secs(1),
        }
    }

    #[test]
    fn only_peers_of_the_gateways_networks_are_gateways() {
        let auth = auth();
        for (peer, trusted) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("192.168.0.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(auth.is_gateway(peer.parse().unwrap()), trusted, "{peer}");
        }
        assert!(!AuthSettings { gateway_networks: vec![], ..auth }.is_gateway("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_token_that_is_revoked_cannot_be_believed_for_longer_than_a_second() {
        auth().validate().unwrap();
        let slow = AuthSettings { token_age_max: Duration::from_millis(1_001), ..auth() };
        assert_eq!(slow.validate().unwrap_err().key, "auth.token_age_max");
        let none = AuthSettings { tokens_cached_max: 0, ..auth() };
        assert_eq!(none.validate().unwrap_err().key, "auth.tokens_cached_max");
    }
}
