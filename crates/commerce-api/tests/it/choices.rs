//! What a test may choose of the api that it starts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use commerce_api::{ApiSettings, AuthMode, AuthSettings, CookieSecurity, RankingSettings, SessionSettings};
use outbox::AppendLimits;
use product_cache::{CacheSettings, LocalCache, ProductCache};
use runtime::{Clock, SystemClock};

/// What a test may choose.
pub(crate) struct Choices {
    pub(crate) api: ApiSettings,
    pub(crate) auth: AuthSettings,
    pub(crate) session: SessionSettings,
    pub(crate) rankings: RankingSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: Arc<dyn ProductCache>,
    pub(crate) limits: AppendLimits,
    pub(crate) connections_max: usize,
    /// Counts live in a database of their own.
    pub(crate) metrics_apart: bool,
}

pub(crate) fn api_settings() -> ApiSettings {
    ApiSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        concurrency_max: 256,
        connections_max: 4_000,
        head_timeout: Duration::from_secs(60),
        send_timeout: Duration::from_secs(60),
        // No limits.
        rate_address_per_minute: 0,
        rate_address_burst: 0,
        rate_caller_per_minute: 0,
        rate_caller_burst: 0,
        rate_keys_max: 1_000,
        request_timeout: Duration::from_secs(90),
        retry_after: Duration::from_secs(1),
        body_bytes_max: 64 * 1024,
        bulk_body_bytes_max: 1024 * 1024,
        bulk_products_max: 1_000,
        order_lines_max: 100,
        order_quantity_max: 1_000_000,
        idempotency_key_bytes_max: 255,
        product_code_bytes_max: 100,
        product_name_bytes_max: 500,
        brand_bytes_max: 100,
        price_max: 1_000_000_000,
        stock_max: 1_000_000_000_000,
        search_bytes_max: 100,
        searched_products_max: 200_000,
        shop_name: "Test shop".to_owned(),
        listed_brands_max: 50,
        filtered_products_max: 10_000,
        page_size_default: 20,
        page_size_max: 100,
        page_depth_max: 10_000,
        views_recorded: true,
        // Wide: a noisy machine must not make a view too late.
        view_wait: Duration::from_secs(30),
        view_commit_wait: Duration::from_secs(30),
        // Never left out.
        cache_failures_max: 0,
        cache_pause: Duration::from_secs(1),
        group_lock_wait: Duration::from_secs(30),
        order_queue_max: 1_000,
        order_batch_max: 200,
        like_queue_max: 1_000,
        like_batch_max: 500,
        view_queue_max: 1_000,
        view_batch_max: 500,
        counts_wait: Duration::from_secs(30),
        // No memory: tests see what they wrote.
        counts_age_max: Duration::ZERO,
        counts_stale_max: Duration::from_secs(600),
        counts_cached_max: 1_000,
        count_order_age_max: Duration::ZERO,
        live_tick: Duration::from_millis(10),
        live_heartbeat: Duration::from_secs(15),
        live_watchers_max: 2_000,
        live_ids_max: 100,
        live_queue_max: 1_000,
        live_read_max: 1_000,
        read_queue_max: 1_000,
        read_batch_max: 200,
    }
}

pub(crate) fn auth_settings(mode: AuthMode) -> anyhow::Result<AuthSettings> {
    Ok(AuthSettings {
        mode,
        gateway_networks: vec!["127.0.0.0/8".parse()?],
        tokens_cached_max: 1_000,
        // No memory: tests see what they wrote.
        token_age_max: Duration::ZERO,
        visitor_wait: Duration::from_secs(30),
        token_lifetime_max: Duration::from_secs(3_600),
    })
}

pub(crate) fn session_settings() -> SessionSettings {
    SessionSettings {
        lifetime: Duration::from_secs(3_600),
        per_token_max: 20,
        secure_cookies: CookieSecurity::Auto,
    }
}

pub(crate) fn ranking_settings() -> RankingSettings {
    RankingSettings {
        view_weight: 0.1,
        like_weight: 0.2,
        sales_weight: 0.6,
        carry_over: 0.1,
        // No memory: tests see what they wrote.
        age_max: Duration::ZERO,
        products_max: 10_000,
        windows_max: 32,
        query_timeout: Duration::from_secs(30),
    }
}

pub(crate) fn local_cache() -> anyhow::Result<LocalCache> {
    Ok(LocalCache::new(CacheSettings {
        key_prefix: String::new(),
        card_ttl: Duration::from_secs(600),
        tombstone_ttl: Duration::from_secs(1_200),
        timeout: Duration::from_secs(10),
        local_cards_max: 10_000,
    })?)
}

impl Choices {
    pub(crate) fn ordinary() -> anyhow::Result<Self> {
        Ok(Self {
            api: api_settings(),
            auth: auth_settings(AuthMode::Gateway)?,
            session: session_settings(),
            rankings: ranking_settings(),
            clock: Arc::new(SystemClock),
            cache: Arc::new(local_cache()?),
            limits: AppendLimits::default(),
            connections_max: 8,
            metrics_apart: false,
        })
    }
}
