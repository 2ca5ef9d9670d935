//! `[api]`, `[auth]`, `[session]`, `[rankings]` and `[metrics]`. The values and what they mean for operators stand in `config/default.toml`.

mod auth;
mod rankings;
mod session;

use std::net::SocketAddr;
use std::time::Duration;

use product_cache::BreakerSettings;
use serde::Deserialize;
use thiserror::Error;

pub use auth::{AuthMode, AuthSettings};
pub use rankings::RankingSettings;
pub use session::{CookieSecurity, SessionSettings};

use crate::domain::filter::FilterLimits;
use crate::domain::order::OrderLimits;
use crate::domain::page::PageLimits;
use crate::domain::product::ProductLimits;
use crate::group_commit::GroupLimits;
use crate::rates::{Rate, RateLimits};
use crate::server::ConnectionLimits;

/// `[api]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    /// Address and port of the buyers' server.
    pub listen: SocketAddr,
    /// Requests that are worked on at once; one more is refused with 503.
    pub concurrency_max: usize,
    /// Requests of one address in a minute; 0: no limit. Gateways (`auth.gateway_networks`) have none.
    pub rate_address_per_minute: u32,
    /// Of these, so many at once.
    pub rate_address_burst: u32,
    /// Requests of one caller in a minute; 0: no limit.
    pub rate_caller_per_minute: u32,
    /// Of these, so many at once.
    pub rate_caller_burst: u32,
    /// Addresses, and callers, of which is remembered how often they asked.
    pub rate_keys_max: usize,
    /// How long a request may take.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Connections that are open at once.
    pub connections_max: usize,
    /// How long the head of a request may take to come.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// How long a client may take nothing of what is sent to it before its connection is closed.
    #[serde(with = "humantime_serde")]
    pub send_timeout: Duration,
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
    /// The name of the shop, on its pages.
    pub shop_name: String,
    /// Brands that the storefront offers to choose from.
    pub listed_brands_max: usize,
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
    /// How long a page waits for the commit of its view.
    #[serde(with = "humantime_serde")]
    pub view_wait: Duration,
    /// How much longer it waits if the writer has taken the view.
    #[serde(with = "humantime_serde")]
    pub view_commit_wait: Duration,
    /// Failed reads or fills of the cache in a row, after which pages leave it out; 0: never.
    pub cache_failures_max: u32,
    /// From then to the one call that is tried.
    #[serde(with = "humantime_serde")]
    pub cache_pause: Duration,
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
    /// How old counts may be that are shown as stale, when newer ones cannot be had.
    #[serde(with = "humantime_serde")]
    pub counts_stale_max: Duration,
    /// Products whose counts are remembered.
    pub counts_cached_max: usize,
    /// How old the order of a list by counts may be.
    #[serde(with = "humantime_serde")]
    pub count_order_age_max: Duration,
    /// How often watched products are read.
    #[serde(with = "humantime_serde")]
    pub live_tick: Duration,
    /// How often a stream without events says that it is alive.
    #[serde(with = "humantime_serde")]
    pub live_heartbeat: Duration,
    /// Streams of watched products.
    pub live_watchers_max: usize,
    /// Products of one stream.
    pub live_ids_max: usize,
    /// States that wait for a watcher.
    pub live_queue_max: usize,
    /// Watched products of one read.
    pub live_read_max: usize,
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

/// The highest `api.stock_max`: what orders give back on top of it stays far from overflowing.
const STOCK_CEILING: i64 = 1_000_000_000_000;

/// The highest number of a rate: times of the limiter stay far from overflowing.
const RATE_CEILING: u32 = 1_000_000;

/// The highest number of what waits, is open, or is done at once: room for as many is kept.
const AT_ONCE_CEILING: usize = 1_000_000;

/// The highest age of what is remembered.
const AGE_CEILING: Duration = Duration::from_secs(365 * 24 * 3_600);

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
        if let Some(key) = self.too_many_at_once() {
            return refuse(key, "must not exceed 1000000");
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
        if let Some(key) = self.unusable_rate() {
            return refuse(key, "must be between 1 and 1000000, or its limit be 0");
        }
        if self.head_timeout.is_zero() || self.send_timeout < Duration::from_millis(1) {
            return refuse("api.head_timeout and api.send_timeout", "must be at least 1ms");
        }
        if self.live_tick.is_zero() || self.live_heartbeat.is_zero() {
            return refuse("api.live_tick and api.live_heartbeat", "must be above zero");
        }
        if self.counts_stale_max < self.counts_age_max {
            return refuse("api.counts_stale_max", "must not be below api.counts_age_max");
        }
        if self.counts_stale_max.max(self.count_order_age_max) > AGE_CEILING {
            return refuse("api.counts_stale_max and api.count_order_age_max", "must not exceed 365days");
        }
        if self.live_queue_max < self.live_ids_max {
            return refuse("api.live_queue_max", "must not be below api.live_ids_max");
        }
        if self.view_wait.saturating_add(self.view_commit_wait) >= self.request_timeout {
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
            ("api.connections_max", self.connections_max),
            ("api.rate_keys_max", self.rate_keys_max),
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
            ("api.listed_brands_max", self.listed_brands_max),
            ("api.order_queue_max", self.order_queue_max),
            ("api.like_queue_max", self.like_queue_max),
            ("api.view_queue_max", self.view_queue_max),
            ("api.view_batch_max", self.view_batch_max),
            ("api.live_ids_max", self.live_ids_max),
            ("api.live_read_max", self.live_read_max),
            ("api.read_queue_max", self.read_queue_max),
            ("api.read_batch_max", self.read_batch_max),
        ]
        .into_iter()
        .find_map(|(key, value)| (value == 0).then_some(key))
    }

    pub(crate) const fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections_max: self.connections_max,
            head_timeout: self.head_timeout,
            send_timeout: self.send_timeout,
        }
    }

    fn too_many_at_once(&self) -> Option<&'static str> {
        [
            ("api.concurrency_max", self.concurrency_max),
            ("api.connections_max", self.connections_max),
            ("api.order_queue_max", self.order_queue_max),
            ("api.order_batch_max", self.order_batch_max),
            ("api.like_queue_max", self.like_queue_max),
            ("api.like_batch_max", self.like_batch_max),
            ("api.view_queue_max", self.view_queue_max),
            ("api.view_batch_max", self.view_batch_max),
            ("api.live_watchers_max", self.live_watchers_max),
            ("api.live_queue_max", self.live_queue_max),
            ("api.read_queue_max", self.read_queue_max),
            ("api.read_batch_max", self.read_batch_max),
        ]
        .into_iter()
        .find_map(|(key, value)| (value > AT_ONCE_CEILING).then_some(key))
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

    /// A rate that cannot be counted with.
    fn unusable_rate(&self) -> Option<&'static str> {
        let RateLimits { address, caller, .. } = self.rate_limits();
        [
            ("api.rate_address_per_minute", "api.rate_address_burst", address),
            ("api.rate_caller_per_minute", "api.rate_caller_burst", caller),
        ]
        .into_iter()
        .filter(|(.., rate)| rate.per_minute > 0)
        .find_map(|(per_minute, burst, rate)| {
            let is_usable = |number| (1..=RATE_CEILING).contains(&number);
            (!is_usable(rate.burst)).then_some(burst).or((!is_usable(rate.per_minute)).then_some(per_minute))
        })
    }

    pub(crate) fn rate_limits(&self) -> RateLimits {
        RateLimits {
            address: Rate { per_minute: self.rate_address_per_minute, burst: self.rate_address_burst },
            caller: Rate { per_minute: self.rate_caller_per_minute, burst: self.rate_caller_burst },
            keys_max: self.rate_keys_max,
        }
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

    pub(crate) const fn cache_breaker(&self) -> BreakerSettings {
        BreakerSettings { failures_max: self.cache_failures_max, pause: self.cache_pause }
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
