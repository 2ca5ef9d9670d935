//! One process for one role, or for all of them.

mod api;
mod relay;
mod streamer;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use product_cache::{LocalCache, ProductCache, RedisCache};
use runtime::management::{self, Health};
use runtime::{Lifecycle, TaskKind, telemetry};

use crate::config::Config;

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Api,
    Relay,
    Streamer,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Relay, Self::Streamer];

    /// The name in client ids, leases and `pg_stat_activity`.
    const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Relay => "relay",
            Self::Streamer => "streamer",
        }
    }
}

/// What the roles of one process share.
struct Process<'a> {
    config: &'a Config,
    lifecycle: Lifecycle,
    health: Vec<Arc<dyn Health>>,
    cache: Option<Arc<dyn ProductCache>>,
    /// Wakes the relay of this process, when it has one.
    nudge: outbox::Nudge,
}

/// Runs `roles` until the process is asked to stop.
pub(crate) async fn run(config: &Config, roles: &[Role]) -> anyhow::Result<ExitCode> {
    let lifecycle = Lifecycle::new();
    lifecycle.watch_signals()?;
    telemetry::install_logs(&config.log)?;
    let metrics = telemetry::install_metrics()?;
    outbox::metrics::describe();
    commerce_streamer::describe_metrics();
    let mut process = Process {
        config,
        lifecycle,
        health: Vec::new(),
        cache: cache(config, roles)?,
        nudge: outbox::Nudge::default(),
    };
    let listener = management::bind(&config.management)
        .await
        .with_context(|| format!("binding management.listen = {}", config.management.listen))?;
    for role in roles {
        match role {
            Role::Api => api::start(&mut process).await,
            Role::Relay => relay::start(&mut process),
            Role::Streamer => streamer::start(&mut process),
        }
        .with_context(|| format!("starting the {}", role.name()))?;
    }
    let Process { mut lifecycle, health, .. } = process;
    let server = management::serve(listener, health, metrics, lifecycle.shutdown());
    lifecycle.spawn(TaskKind::Management, server);
    tracing::info!(roles = ?roles, management = %config.management.listen, "started");
    match lifecycle.run(config.process.drain).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

/// The cache that the roles need: Redis, or memory when every role runs in this process.
fn cache(config: &Config, roles: &[Role]) -> anyhow::Result<Option<Arc<dyn ProductCache>>> {
    if roles == [Role::Relay] {
        return Ok(None);
    }
    let settings = config.cache.clone();
    if !config.redis.url.is_empty() {
        return Ok(Some(Arc::new(RedisCache::connect(&config.redis.url, settings)?)));
    }
    if roles.len() < Role::ALL.len() {
        bail!("redis.url is empty: api and streamer as processes of their own need one cache between them");
    }
    Ok(Some(Arc::new(LocalCache::new(settings)?)))
}

impl Process<'_> {
    fn cache(&self) -> anyhow::Result<Arc<dyn ProductCache>> {
        self.cache.clone().context("this role needs a cache")
    }

    /// Takes ticks for the outbox, as every process that touches it does.
    fn spawn_ticker(&mut self, role: Role) -> anyhow::Result<()> {
        let options = runtime::database::connect_options(&self.config.database.url, role.name())?;
        let ticker = outbox::ticker::run(self.config.ticker(), options, self.lifecycle.shutdown());
        self.lifecycle.spawn(TaskKind::Ticker, async move {
            ticker.await;
            Ok::<_, std::convert::Infallible>(())
        });
        Ok(())
    }
}
