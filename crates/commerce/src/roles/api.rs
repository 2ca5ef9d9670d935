//! The buyers' HTTP server.

use std::sync::Arc;

use anyhow::Context;
use commerce_api::{Api, ApiParts, EventLog};
use runtime::{SystemClock, database};

use super::{Process, Role};

pub(super) async fn start(process: &mut Process<'_>) -> anyhow::Result<()> {
    let config = process.config;
    let pool = database::pool(&config.database, Role::Api.name())?;
    let metrics_pool = if config.metrics.database_url.is_empty() {
        pool.clone()
    } else {
        let mut settings = config.database.clone();
        settings.url.clone_from(&config.metrics.database_url);
        database::pool(&settings, Role::Api.name())?
    };
    let nudge = Some(process.nudge.clone());
    let log = EventLog::new(config.kafka.topic_prefix.clone(), config.append_limits(), nudge);
    let parts = ApiParts { pool, metrics_pool, cache: process.cache()?, log, clock: Arc::new(SystemClock) };
    let api = Api::new(config.api.clone(), config.auth.clone(), config.session, config.rankings, parts)?;
    let listener = commerce_api::bind(&config.api)
        .await
        .with_context(|| format!("binding api.listen = {}", config.api.listen))?;
    tracing::info!(listen = %listener.local_addr()?, "api serves buyers");
    api.start(listener, &mut process.lifecycle);
    process.spawn_ticker(Role::Api)
}
