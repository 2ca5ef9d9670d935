//! `[api]`, `[auth]` and `[metrics]`. The values and what they mean for operators stand in `config/default.toml`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

use crate::domain::filter::FilterLimits;
use crate::domain::order::OrderLimits;
use crate::domain::page::PageLimits;
use crate::domain::product::ProductLimits;
use crate::group_commit::GroupLimits;
use crate::store::rankings::Weights;

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
    /// Units of one product in an order.
    pub order_quantity_max: i64,
    /// Bytes of an `Idempotency-Key`.
    pub idempotency_key_bytes_max: usize,
    /// Bytes of a product's code.
    pub product_code_bytes_max: usize,
    /// Bytes of a product's name.
    pub product_name_bytes_max: usize,
    /// Bytes of a brand.
    pub brand_bytes_max: usize,
    /// Minor units of one unit's price.
    pub price_max: i64,
    /// Units that a merchant may have of one product.
    pub stock_max: i64,
    /// Bytes of a search text.
    pub search_bytes_max: usize,
    /// Products whose names one search compares.
    pub searched_products_max: usize,
    /// Products that a filter may match when the list is sorted by counts.
    pub filtered_products_max: usize,
    /// Rows of a page when the request names no size.
    pub page_size_default: usize,
    /// Rows of a page.
    pub page_size_max: usize,
    /// Rows up to the end of the deepest page.
    pub page_depth_max: usize,
    /// Whether views of product pages are recorded.
    pub views_recorded: bool,
    /// How long a page waits for its view to be taken by the writer.
    #[serde(with = "humantime_serde")]
    pub view_wait: Duration,
    /// How long a page waits for the commit of a view that the writer has taken.
    #[serde(with = "humantime_serde")]
    pub view_commit_wait: Duration,
    /// How long commands that are executed together wait for a row that somebody else has locked.
    #[serde(with = "humantime_serde")]
    pub group_lock_wait: Duration,
    /// Orders that wait to be placed.
    pub order_queue_max: usize,
    /// Orders in one transaction; 0: each has its own, on a connection of its own.
    pub order_batch_max: usize,
    /// Likes, given or taken back, that wait to be written.
    pub like_queue_max: usize,
    /// Likes in one transaction; 0: each has its own.
    pub like_batch_max: usize,
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
    /// How old the order of a list by counts may be.
    #[serde(with = "humantime_serde")]
    pub count_order_age_max: Duration,
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

/// `[rankings]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingSettings {
    /// What a view is worth.
    pub view_weight: f64,
    /// What a like is worth.
    pub like_weight: f64,
    /// What one more in the natural logarithm of the amount sold is worth.
    pub sales_weight: f64,
    /// How much of the score of the day (the hour) before a day (an hour) begins with.
    pub carry_over: f64,
    /// How old a ranking may be.
    #[serde(with = "humantime_serde")]
    pub age_max: Duration,
    /// Places of a ranking.
    pub products_max: usize,
    /// Rankings that are remembered.
    pub windows_max: usize,
    /// How long the read of a ranking may take.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
}

impl RankingSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`SettingsError`] names the key.
    pub fn validate(&self, page_size_max: usize) -> Result<(), SettingsError> {
        let weights = [
            ("rankings.view_weight", self.view_weight),
            ("rankings.like_weight", self.like_weight),
            ("rankings.sales_weight", self.sales_weight),
        ];
        if let Some((key, _)) = weights.into_iter().find(|(_, weight)| !weight.is_finite() || *weight < 0.0) {
            return refuse(key, "must not be below 0");
        }
        if !(0.0..=1.0).contains(&self.carry_over) {
            return refuse("rankings.carry_over", "must be between 0 and 1");
        }
        if self.products_max < page_size_max {
            return refuse("rankings.products_max", "must not be below api.page_size_max");
        }
        if self.windows_max == 0 {
            return refuse("rankings.windows_max", "must be at least 1");
        }
        if self.query_timeout.is_zero() {
            return refuse("rankings.query_timeout", "must be above zero");
        }
        Ok(())
    }

    pub(crate) const fn weights(&self) -> Weights {
        Weights {
            views: self.view_weight,
            likes: self.like_weight,
            sales: self.sales_weight,
            carried: self.carry_over,
        }
    }
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

/// The highest `api.stock_max`: what orders give back on top of it stays far from overflowing.
const STOCK_CEILING: i64 = 1_000_000_000_000;

/// Bytes of a text that stands in an index, whose entries have at most 2,700.
const INDEXED_BYTES_MAX: usize = 1_000;

/// A setting that cannot be used.
#[derive(Debug, Error)]
#[error("{key} {rule}")]
pub struct SettingsError {
    /// The key.
    pub key: &'static str,
    /// What it breaks.
    pub rule: &'static str,
}

fn refuse(key: &'static str, rule: &'static str) -> Result<(), SettingsError> {
    Err(SettingsError { key, rule })
}

impl ApiSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`SettingsError`] names the key.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if let Some(key) = self.zero() {
            return refuse(key, "must be at least 1");
        }
        if let Some(key) = self.too_long_for_an_index() {
            return refuse(key, "must not exceed 1000: an entry of an index has to hold it");
        }
        if self.order_lines_max > commerce_events::LINES_MAX {
            return refuse("api.order_lines_max", "must not exceed the 2000 lines of an event");
        }
        if !(1..=commerce_events::QUANTITY_MAX).contains(&self.order_quantity_max) {
            return refuse(
                "api.order_quantity_max",
                "must be between 1 and the 1000000 units of an event's line",
            );
        }
        if !(0..=commerce_events::UNIT_PRICE_MAX).contains(&self.price_max) {
            return refuse("api.price_max", "must be between 0 and the 1000000000 of an event's line");
        }
        if !(0..=STOCK_CEILING).contains(&self.stock_max) {
            return refuse("api.stock_max", "must be between 0 and 1000000000000");
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

    /// A limit that is 0 and must not be: nothing could be served.
    fn zero(&self) -> Option<&'static str> {
        [
            ("api.concurrency_max", self.concurrency_max),
            ("api.body_bytes_max", self.body_bytes_max),
            ("api.bulk_products_max", self.bulk_products_max),
            ("api.order_lines_max", self.order_lines_max),
            ("api.idempotency_key_bytes_max", self.idempotency_key_bytes_max),
            ("api.product_code_bytes_max", self.product_code_bytes_max),
            ("api.product_name_bytes_max", self.product_name_bytes_max),
            ("api.brand_bytes_max", self.brand_bytes_max),
            ("api.search_bytes_max", self.search_bytes_max),
            ("api.searched_products_max", self.searched_products_max),
            ("api.filtered_products_max", self.filtered_products_max),
            ("api.page_size_default", self.page_size_default),
            ("api.order_queue_max", self.order_queue_max),
            ("api.like_queue_max", self.like_queue_max),
            ("api.view_queue_max", self.view_queue_max),
            ("api.view_batch_max", self.view_batch_max),
            ("api.read_queue_max", self.read_queue_max),
            ("api.read_batch_max", self.read_batch_max),
        ]
        .into_iter()
        .find_map(|(key, value)| (value == 0).then_some(key))
    }

    fn too_long_for_an_index(&self) -> Option<&'static str> {
        [
            ("api.idempotency_key_bytes_max", self.idempotency_key_bytes_max),
            ("api.product_code_bytes_max", self.product_code_bytes_max),
            ("api.brand_bytes_max", self.brand_bytes_max),
        ]
        .into_iter()
        .find_map(|(key, value)| (value > INDEXED_BYTES_MAX).then_some(key))
    }

    pub(crate) fn product_limits(&self) -> ProductLimits {
        ProductLimits {
            code_bytes_max: self.product_code_bytes_max,
            name_bytes_max: self.product_name_bytes_max,
            brand_bytes_max: self.brand_bytes_max,
            price_max: self.price_max,
            stock_max: self.stock_max,
        }
    }

    pub(crate) fn order_limits(&self) -> OrderLimits {
        OrderLimits { lines_max: self.order_lines_max, quantity_max: self.order_quantity_max }
    }

    pub(crate) fn filter_limits(&self) -> FilterLimits {
        FilterLimits { brand_bytes_max: self.brand_bytes_max, search_bytes_max: self.search_bytes_max }
    }

    pub(crate) fn order_group_limits(&self) -> GroupLimits {
        self.group_limits(self.order_queue_max, self.order_batch_max)
    }

    pub(crate) fn like_group_limits(&self) -> GroupLimits {
        self.group_limits(self.like_queue_max, self.like_batch_max)
    }

    /// Views lock nothing that others hold, and wait for their table as long as it takes.
    pub(crate) fn view_group_limits(&self) -> GroupLimits {
        GroupLimits {
            lock_wait: self.request_timeout,
            ..self.group_limits(self.view_queue_max, self.view_batch_max)
        }
    }

    fn group_limits(&self, queue_max: usize, batch_max: usize) -> GroupLimits {
        GroupLimits { queue_max, batch_max, lock_wait: self.group_lock_wait }
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
