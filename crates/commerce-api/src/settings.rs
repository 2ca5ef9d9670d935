//! `[api]`, `[auth]` and `[metrics]`. The values and what they mean for operators stand in `config/default.toml`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

use crate::domain::page::PageLimits;

/// `[api]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    /// Address and port of the buyers' server.
    pub listen: SocketAddr,
    /// Requests that are worked on at once; one more is refused with 503.
    pub concurrency_max: usize,
    /// How long a request may take.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// What `Retry-After` says when a request is refused for load or an outage.
    #[serde(with = "humantime_serde")]
    pub retry_after: Duration,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Bytes of the body of a bulk creation.
    pub bulk_body_bytes_max: usize,
    /// Products of one bulk creation.
    pub bulk_products_max: usize,
    /// Lines of one order, before lines of one product are merged.
    pub order_lines_max: usize,
    /// Rows of a page when the request names no size.
    pub page_size_default: usize,
    /// Rows of a page.
    pub page_size_max: usize,
    /// Rows up to the end of the deepest page.
    pub page_depth_max: usize,
    /// How long a page waits for its view to be taken by the writer.
    #[serde(with = "humantime_serde")]
    pub view_wait: Duration,
    /// How long a page waits for the commit of a view that the writer has taken.
    #[serde(with = "humantime_serde")]
    pub view_commit_wait: Duration,
    /// Views that wait to be written.
    pub view_queue_max: usize,
    /// Views in one transaction.
    pub view_batch_max: usize,
    /// How long a page waits for counts before it is served without them.
    #[serde(with = "humantime_serde")]
    pub counts_wait: Duration,
    /// How old counts may be.
    #[serde(with = "humantime_serde")]
    pub counts_age_max: Duration,
    /// Products whose counts are remembered.
    pub counts_cached_max: usize,
    /// Requests that wait for the next batched read.
    pub read_queue_max: usize,
    /// Requests that one batched read answers.
    pub read_batch_max: usize,
}

/// `[metrics]`: where the counts are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// The streamer's database; empty: the same as `database.url`.
    pub database_url: String,
}

/// How callers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// A gateway in front says who calls, by `X-USER-ID` and `X-USER-ROLE`.
    Gateway,
}

/// `[auth]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// How callers are told apart.
    pub mode: AuthMode,
    /// Peers whose `X-USER-*` headers are believed.
    pub gateway_networks: Vec<IpNet>,
}

/// A setting that cannot be used.
#[derive(Debug, Error)]
#[error("{key} {rule}")]
pub struct SettingsError {
    /// The key.
    pub key: &'static str,
    /// What it breaks.
    pub rule: &'static str,
}

impl ApiSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`SettingsError`] names the key.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let refuse = |key, rule| Err(SettingsError { key, rule });
        let positive = [
            ("api.concurrency_max", self.concurrency_max),
            ("api.body_bytes_max", self.body_bytes_max),
            ("api.bulk_products_max", self.bulk_products_max),
            ("api.order_lines_max", self.order_lines_max),
            ("api.page_size_default", self.page_size_default),
            ("api.view_queue_max", self.view_queue_max),
            ("api.view_batch_max", self.view_batch_max),
            ("api.read_queue_max", self.read_queue_max),
            ("api.read_batch_max", self.read_batch_max),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return refuse(key, "must be at least 1");
        }
        if self.order_lines_max > commerce_events::LINES_MAX {
            return refuse("api.order_lines_max", "must not exceed the 2000 lines of an event");
        }
        if self.page_size_default > self.page_size_max {
            return refuse("api.page_size_default", "must not exceed api.page_size_max");
        }
        if self.page_size_max > self.page_depth_max {
            return refuse("api.page_size_max", "must not exceed api.page_depth_max");
        }
        if self.view_wait + self.view_commit_wait >= self.request_timeout {
            return refuse(
                "api.request_timeout",
                "must exceed api.view_wait and api.view_commit_wait together",
            );
        }
        Ok(())
    }

    pub(crate) fn page_limits(&self) -> PageLimits {
        PageLimits {
            size_default: self.page_size_default,
            size_max: self.page_size_max,
            depth_max: self.page_depth_max,
        }
    }
}

impl AuthSettings {
    /// Whether the headers of this peer are believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        match self.mode {
            AuthMode::Gateway => {
                let peer = peer.to_canonical();
                self.gateway_networks.iter().any(|network| network.contains(&peer))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthMode, AuthSettings};

    #[test]
    fn only_peers_of_the_gateways_networks_are_believed() {
        let networks = ["127.0.0.0/8", "::1/128", "10.1.0.0/16"];
        let auth = AuthSettings {
            mode: AuthMode::Gateway,
            gateway_networks: networks.map(|network| network.parse().unwrap()).to_vec(),
        };
        for (peer, trusted) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("192.168.0.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(auth.trusts(peer.parse().unwrap()), trusted, "{peer}");
        }
        assert!(!AuthSettings { gateway_networks: vec![], ..auth }.trusts("127.0.0.1".parse().unwrap()));
    }
}
