//! The shop's HTTP api: products, likes, orders, views — each change with its event in one transaction.
//!
//! Invariants: an event exists if and only if its change committed (everything goes through [`EventLog`] on the
//! transaction of the change); stock rows are changed under locks taken in product order; a page is served whether or
//! not counting works. Layers: `domain` rules, `store` SQL, `commands` effects, `routes` HTTP; each knows only those
//! before it. Deliberately absent: the counting itself (the streamer does it).

mod batch_reader;
mod catalog;
pub mod commands;
mod count_orders;
mod counts;
mod domain;
mod error;
mod error_code;
mod event_log;
mod group_commit;
mod hand_over;
mod in_process;
mod language;
mod listing;
mod live;
mod metrics;
mod pages;
mod rankings;
mod rates;
mod remembered;
mod routes;
mod server;
mod sessions;
mod settings;
mod store;
pub mod tokens;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use product_cache::ProductCache;
use runtime::database::Pool;
use runtime::{Clock, Lifecycle, TaskKind};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use commands::import;
pub use domain::{Line, OrderKind};
pub use event_log::{EventLog, EventLogError};
pub use in_process::{CommandError, Commands};
pub use settings::{
    ApiSettings, AuthMode, AuthSettings, CookieSecurity, MetricsSettings, RankingSettings, SessionSettings,
    SettingsError,
};
pub use store::{ProductRecount, StoreError, recount};

use batch_reader::BatchReaderTask;
use catalog::{CardSource, Catalog, catalog};
use commands::Shop;
use commands::like_product::LikeGroup;
use commands::place_order::OrderGroup;
use count_orders::{CountOrderSource, CountOrders};
use counts::{CountReader, CountSource, counts};
use group_commit::{Desk, Writer, desk};
use live::Live;
use metrics::RequestMetrics;
use pages::{Assets, Cookies, Storefront};
use rankings::{RankingSource, Rankings, rankings};
use rates::Rates;
use remembered::{MemoryLimits, MemoryTask, remembered};
use sessions::{SessionTask, Sessions, sessions};
use store::counts::CountOrder;
use tokens::{TokenTask, Tokens, tokens};
use views::{ViewGroup, ViewRecorder, views};

/// The schema `shop`; its migrations are recorded inside it.
#[must_use]
pub fn migrations() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("shop");
    migrator.dangerous_set_table_name("shop._migrations");
    migrator
}

/// What the api works with.
#[derive(Clone)]
pub struct ApiParts {
    /// The shop's database.
    pub pool: Pool,
    /// The streamer's database, where the counts are; often the same pool.
    pub metrics_pool: Pool,
    /// Product cards.
    pub cache: Arc<dyn ProductCache>,
    /// Where events go.
    pub log: EventLog,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// The api, ready to be started.
pub struct Api {
    app: Arc<App>,
    /// Those of the api, which its document describes.
    routes: Router<Arc<App>>,
    cards: BatchReaderTask<CardSource>,
    counts: BatchReaderTask<CountSource>,
    count_orders: MemoryTask<CountOrderSource>,
    rankings: MemoryTask<RankingSource>,
    tokens: TokenTask,
    sessions: SessionTask,
    views: Writer<ViewGroup>,
    orders: Option<Writer<OrderGroup>>,
    likes: Option<Writer<LikeGroup>>,
}

/// What every request shares.
struct App {
    settings: ApiSettings,
    auth: AuthSettings,
    tokens: Tokens,
    sessions: Sessions,
    rates: Rates,
    shop: Arc<Shop>,
    metrics_pool: Pool,
    catalog: Catalog,
    counts: CountReader,
    count_orders: CountOrders,
    rankings: Rankings,
    /// Places of a ranking.
    ranked_max: usize,
    views: ViewRecorder,
    orders: Desk<OrderGroup>,
    likes: Desk<LikeGroup>,
    live: Live,
    concurrency: Arc<Semaphore>,
    request_metrics: RequestMetrics,
    /// Of the routes, for machines.
    document: Bytes,
    storefront: Storefront,
}

/// Binds the buyers' port; fails early when it is taken.
///
/// # Errors
/// The bind error of the operating system.
pub async fn bind(settings: &ApiSettings) -> std::io::Result<TcpListener> {
    TcpListener::bind(settings.listen).await
}

impl Api {
    /// Puts the parts together; starts nothing.
    ///
    /// # Errors
    /// [`SettingsError`] names a setting that cannot be used.
    pub fn new(
        settings: ApiSettings,
        auth: AuthSettings,
        session: SessionSettings,
        ranking: RankingSettings,
        parts: ApiParts,
    ) -> Result<Self, SettingsError> {
        settings.validate()?;
        auth.validate()?;
        session.validate()?;
        ranking.validate(settings.page_size_max)?;
        let ApiParts { pool, metrics_pool, cache, log, clock } = parts;
        let shop = Arc::new(Shop { pool: pool.clone(), clock: Arc::clone(&clock), log });
        let (queue_max, batch_max) = (settings.read_queue_max, settings.read_batch_max);
        let token_limits = auth.token_limits(queue_max);
        let (tokens, token_task) = tokens(pool.clone(), token_limits, batch_max);
        let (sessions, session_task) = sessions(pool.clone(), session, token_limits, batch_max);
        let (catalog, card_task) = catalog(pool.clone(), cache, &settings);
        let (counts, count_task) = counts(metrics_pool.clone(), &settings);
        let ids_max = settings.page_depth_max + 1;
        let source = CountOrderSource { pool: metrics_pool.clone(), ids_max };
        // One entry for each order.
        let entries_max = CountOrder::ALL.len();
        let limits = MemoryLimits { entries_max, age_max: settings.count_order_age_max, queue_max };
        let (count_orders, order_task) = remembered(source, limits);
        let (rankings, ranking_task) =
            rankings(metrics_pool.clone(), clock, ranking, queue_max, settings.counts_wait);
        let (views, view_task) = views(Arc::clone(&shop), pool.clone(), &settings);
        let (order_group, like_group) = (OrderGroup(Arc::clone(&shop)), LikeGroup(Arc::clone(&shop)));
        let (orders, order_writer) = desk(order_group, pool.clone(), settings.order_group_limits());
        let (likes, like_writer) = desk(like_group, pool, settings.like_group_limits());
        let rates = Rates::new(settings.rate_limits());
        let live = Live::new(settings.live_watchers_max, settings.live_queue_max);
        let concurrency = Arc::new(Semaphore::new(settings.concurrency_max));
        let (routes, document) = routes::described(settings.body_bytes_max, settings.bulk_body_bytes_max);
        let storefront = Storefront {
            assets: Assets::new(),
            shop_name: settings.shop_name.clone(),
            cookies: Cookies::new(session.are_cookies_secure(settings.listen)),
            session_lifetime: session.lifetime,
        };
        let app = Arc::new(App {
            settings,
            auth,
            tokens,
            sessions,
            rates,
            shop,
            metrics_pool,
            catalog,
            counts,
            count_orders,
            rankings,
            ranked_max: ranking.products_max,
            views,
            orders,
            likes,
            live,
            concurrency,
            request_metrics: RequestMetrics::new(),
            document: document.into(),
            storefront,
        });
        Ok(Self {
            app,
            routes,
            cards: card_task,
            counts: count_task,
            count_orders: order_task,
            rankings: ranking_task,
            tokens: token_task,
            sessions: session_task,
            views: view_task,
            orders: order_writer,
            likes: like_writer,
        })
    }

    /// Starts the server on `listener` and the tasks behind it. On shutdown the server answers what it has accepted;
    /// the tasks serve it until then and end with it.
    pub fn start(self, listener: TcpListener, lifecycle: &mut Lifecycle) {
        let limits = self.app.settings.connection_limits();
        let shutdown = lifecycle.shutdown();
        let router = self.start_tasks(lifecycle);
        lifecycle.spawn(TaskKind::Api, server::serve(listener, router, limits, shutdown));
    }

    /// Starts the tasks behind the server and answers the server's routes, for the fuzzer: it asks them without a connection. Each
    /// request has to say whose it is by an extension `ConnectInfo<SocketAddr>`.
    #[cfg(feature = "fuzzing")]
    pub fn start_without_server(self, lifecycle: &mut Lifecycle) -> Router {
        self.start_tasks(lifecycle)
    }

    fn start_tasks(self, lifecycle: &mut Lifecycle) -> Router {
        lifecycle.spawn(TaskKind::ViewWriter, self.views.run());
        if let Some(writer) = self.orders {
            lifecycle.spawn(TaskKind::OrderWriter, writer.run());
        }
        if let Some(writer) = self.likes {
            lifecycle.spawn(TaskKind::LikeWriter, writer.run());
        }
        lifecycle.spawn(TaskKind::CardReader, self.cards.run());
        lifecycle.spawn(TaskKind::CountReader, self.counts.run());
        lifecycle.spawn(TaskKind::CountOrderReader, self.count_orders.run());
        lifecycle.spawn(TaskKind::RankingReader, self.rankings.run());
        lifecycle.spawn(TaskKind::TokenReader, self.tokens.run());
        lifecycle.spawn(TaskKind::SessionReader, self.sessions.run());
        lifecycle.spawn(TaskKind::LiveTicker, live::run(Arc::clone(&self.app), lifecycle.shutdown()));
        routes::router(self.routes, self.app)
    }
}
