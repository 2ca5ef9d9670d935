//! Two shops without a database and without a port: behind a gateway, and with tokens.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use chrono::{DateTime, Utc};
use commerce_api::{
    Api, ApiParts, ApiSettings, AuthMode, AuthSettings, EventLog, RankingSettings, SessionSettings,
    SettingsError,
};
use http_body_util::BodyExt;
use outbox::AppendLimits;
use product_cache::{CacheSettings, Card, LocalCache, ProductCache};
use runtime::database::{DatabaseSettings, Pool};
use runtime::{Clock, Lifecycle};
use tokio::runtime::Runtime;
use tower_service::Service;

use super::request::Asked;
use crate::config::load;

/// The secret of the browser that signs in; the seals in `corpus/forms` are made with it.
const ENTRY: &str = "entry=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Long after the end of any run.
const LONG: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Who asks whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A gateway, for the merchant.
    Merchant,
    /// A gateway, for a buyer in a browser.
    Buyer,
    /// A gateway, for a machine that is nobody in particular.
    Stranger,
    /// A browser without a session, where tokens count.
    TokenStranger,
    /// A browser that was shown the form to sign in.
    TokenEntry,
    /// Anybody, who is no gateway.
    Bare,
    /// Anybody, where tokens count.
    BareToken,
}

impl Caller {
    fn has_token(self) -> bool {
        matches!(self, Self::TokenStranger | Self::TokenEntry | Self::BareToken)
    }

    fn peer(self) -> SocketAddr {
        let address =
            if matches!(self, Self::Bare | Self::BareToken) { [203, 0, 113, 9] } else { [127, 0, 0, 1] };
        SocketAddr::from((address, 4_711))
    }

    fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Merchant => &[("x-user-id", "7"), ("x-user-role", "admin")],
            Self::Buyer => &[("x-user-id", "7"), ("accept", "text/html")],
            Self::TokenStranger => &[("accept", "text/html")],
            Self::TokenEntry => &[("accept", "text/html"), ("cookie", ENTRY)],
            Self::Stranger | Self::Bare | Self::BareToken => &[],
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Empty for a stream, which has no end.
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("our headers are ASCII"))
    }
}

struct Shops {
    runtime: Runtime,
    gateway: Router,
    token: Router,
    _tasks: Lifecycle,
}

thread_local! {
    static SHOPS: OnceCell<Shops> = const { OnceCell::new() };
}

/// The answer to a request; `None` when it is never answered, which no request is.
pub(super) fn ask(caller: Caller, asked: &Asked<'_>) -> Option<Answer> {
    let mut request = asked.request();
    for (name, value) in caller.headers() {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    request.extensions_mut().insert(ConnectInfo(caller.peer()));
    SHOPS.with(|shops| {
        let shops = shops.get_or_init(|| open().expect("the shops open"));
        let mut router = if caller.has_token() { shops.token.clone() } else { shops.gateway.clone() };
        shops.runtime.block_on(async {
            let Ok(response) = router.call(request).await;
            let (parts, body) = response.into_parts();
            let kind = parts.headers.get("content-type").map_or(&b""[..], |kind| kind.as_bytes());
            let is_stream = kind.starts_with(b"text/event-stream");
            let body = if is_stream { Vec::new() } else { body.collect().await.ok()?.to_bytes().to_vec() };
            Some(Answer { status: parts.status, headers: parts.headers, body })
        })
    })
}

/// The time of day in these shops.
struct Noon;

impl Clock for Noon {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a moment of 2027")
    }
}

fn open() -> anyhow::Result<Shops> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let entered = runtime.enter();
    let mut tasks = Lifecycle::new();
    let mut router = |mode| {
        let mut config = load(None)?;
        config.auth.mode = mode;
        (config.api.rate_address_per_minute, config.api.rate_caller_per_minute) = (0, 0);
        // A view would be waited for; whether it is recorded is no matter of what is read.
        config.api.views_recorded = false;
        let api = api(config.api, config.auth, config.session, config.rankings)?;
        anyhow::Ok(api.start_without_server(&mut tasks))
    };
    let (gateway, token) = (router(AuthMode::Gateway)?, router(AuthMode::Token)?);
    drop(entered);
    Ok(Shops { runtime, gateway, token, _tasks: tasks })
}

/// An api without a database, with a few products in its cache.
pub(in crate::targets) fn api(
    settings: ApiSettings,
    auth: AuthSettings,
    session: SessionSettings,
    rankings: RankingSettings,
) -> Result<Api, SettingsError> {
    let pool = closed_pool();
    let log = EventLog::new(String::new(), AppendLimits::default(), None);
    let parts =
        ApiParts { pool: pool.clone(), metrics_pool: pool, cache: cache(), log, clock: Arc::new(Noon) };
    Api::new(settings, auth, session, rankings, parts)
}

pub(in crate::targets) fn closed_pool() -> Pool {
    let settings = DatabaseSettings {
        url: "postgres://nobody@localhost/nothing".to_owned(),
        connections_max: 1,
        acquire_timeout: LONG,
        statement_timeout: LONG,
    };
    let pool = runtime::database::pool(&settings, "fuzz").expect("the settings are sound");
    pool.close();
    pool
}

/// Products 1 to 3; the last one is sold out. Nothing changes them, so every api has the same.
pub(in crate::targets) fn cache() -> Arc<LocalCache> {
    static FILLED: OnceLock<Arc<LocalCache>> = OnceLock::new();
    Arc::clone(FILLED.get_or_init(filled_cache))
}

fn filled_cache() -> Arc<LocalCache> {
    let settings = CacheSettings {
        key_prefix: String::new(),
        card_ttl: LONG,
        tombstone_ttl: LONG * 2,
        timeout: LONG,
        local_cards_max: 100,
    };
    let cache = LocalCache::new(settings).expect("the settings are sound");
    let cards: Vec<Card> = (1..=3).map(card).collect();
    let filled = tokio::runtime::Builder::new_current_thread().enable_time().build();
    // On a thread of its own: this one may be inside a runtime.
    std::thread::scope(|scope| {
        let fill = || filled.expect("a runtime").block_on(cache.fill(&cards));
        let done = scope.spawn(fill).join().expect("the filling ends");
        done.expect("a cache in memory takes cards");
    });
    Arc::new(cache)
}

fn card(product_id: i64) -> Card {
    Card {
        product_id,
        code: format!("code-{product_id}"),
        name: "컵 <b>&\"'".to_owned(),
        brand: (product_id > 1).then(|| "공방".to_owned()),
        price: 12_000,
        sold_out: product_id == 3,
        stock_version: 1,
    }
}
