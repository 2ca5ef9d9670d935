//! `commerce doctor`: what the roles need, and whether it is there. Changes nothing, unless it is told to rebase the outbox.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use commerce_events::TOPICS;
use kafka_client::admin::Admin;
use kafka_client::refuse_weak_settings;
use outbox::{Rebase, RebaseError, RebaseMode};
use product_cache::{ProductCache, RedisCache};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use crate::config::{Config, mask_url};

/// A server that does not answer for so long is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `commerce doctor` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Make an outbox that was restored from a dump this server's own: what was not published stays, to be published
    /// with the same identities. Ends with 0 when it is done, with 3 when it is refused and nothing was changed
    #[arg(long)]
    rebase_outbox: bool,
    /// Only say what --rebase-outbox would do
    #[arg(long, requires = "rebase_outbox")]
    dry_run: bool,
    /// Write the findings as JSON; `-` for standard output
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Exit code of a rebase that is refused; 1 is a failure, 2 a wrong command line.
const REFUSED: u8 = 3;

/// What was found about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    text: String,
}

pub(crate) async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.rebase_outbox {
        return rebase_outbox(config, arguments).await;
    }
    let findings = [
        finding("shop database", shop(config)).await,
        finding("metrics database", metrics(config)).await,
        finding("kafka", kafka(config)).await,
        finding("cache", cache(config)).await,
    ];
    for Finding { what, ok, text } in &findings {
        eprintln!("{} {what:<18} {text}", if *ok { "ok  " } else { "FAIL" });
    }
    write_json(&findings, arguments)?;
    Ok(if findings.iter().all(|finding| finding.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_json(report: &impl Serialize, arguments: &Arguments) -> anyhow::Result<()> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)? + "\n";
    if path.as_os_str() == "-" {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

async fn rebase_outbox(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mode = if arguments.dry_run { RebaseMode::DryRun } else { RebaseMode::Apply };
    let database = mask_url(&config.database.url);
    let mut connection = connect(&config.database.url).await?;
    let told = match outbox::rebase(&mut connection, mode).await {
        Ok(told) => told,
        Err(RebaseError::Database(error)) => return Err(error).context("rebasing; nothing was changed"),
        Err(refusal) => {
            eprintln!("refused, nothing was changed in {database}: {refusal}");
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let Rebase { from_server, to_server, shards, kept, removed, ticks } = told;
    let (verb, end) = match mode {
        RebaseMode::DryRun => ("would rebase", "; nothing was changed"),
        RebaseMode::Apply => ("rebased", ""),
    };
    eprintln!(
        "{verb} {shards} shards in {database} from server {from_server} to {to_server}: {kept} unpublished events kept, \
         {removed} published events and {ticks} ticks removed{end}"
    );
    let report = serde_json::json!({
        "dry_run": arguments.dry_run, "from_server": from_server.to_string(), "to_server": to_server.to_string(),
        "shards": shards, "kept": kept, "removed": removed, "ticks": ticks,
    });
    write_json(&report, arguments)?;
    Ok(ExitCode::SUCCESS)
}

async fn finding(what: &'static str, check: impl Future<Output = anyhow::Result<String>>) -> Finding {
    match tokio::time::timeout(PATIENCE, check).await {
        Ok(Ok(text)) => Finding { what, ok: true, text },
        Ok(Err(error)) => Finding { what, ok: false, text: format!("{error:#}") },
        Err(_) => Finding { what, ok: false, text: format!("no answer within {} s", PATIENCE.as_secs()) },
    }
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options = runtime::database::connect_options(url, "commerce-doctor")?;
    PgConnection::connect_with(&options).await.with_context(|| format!("{} does not answer", mask_url(url)))
}

async fn shop(config: &Config) -> anyhow::Result<String> {
    let mut connection = connect(&config.database.url).await?;
    let backlog = outbox::backlog(&mut connection).await.context("no outbox: run `commerce migrate`")?;
    if let Some(refusal) = outbox::relay::find_refusal(&mut connection).await? {
        bail!("a relay refuses {}: {refusal}", mask_url(&config.database.url));
    }
    let age =
        backlog.oldest_age.map_or_else(String::new, |age| format!(", the oldest {} s old", age.as_secs()));
    Ok(format!("{}: {} events wait to be published{age}", mask_url(&config.database.url), backlog.rows))
}

async fn metrics(config: &Config) -> anyhow::Result<String> {
    let mut connection = connect(config.metrics_url()).await?;
    let owed = commerce_streamer::owed_intents(&mut connection)
        .await
        .context("no counts: run `commerce migrate`")?;
    Ok(format!("{}: {owed} cache invalidations are owed", mask_url(config.metrics_url())))
}

async fn kafka(config: &Config) -> anyhow::Result<String> {
    let client = config.kafka.client("doctor");
    refuse_weak_settings(&client.options)?;
    let topics = Admin::new(&client)?.list_topics().await?;
    let missing: Vec<String> = TOPICS
        .iter()
        .map(|topic| config.kafka.topic(topic))
        .filter(|topic| !topics.contains_key(topic))
        .collect();
    if !missing.is_empty() {
        bail!("topics are missing: {}; run `commerce migrate`", missing.join(", "));
    }
    Ok(format!("{}: every topic is there", config.kafka.brokers))
}

async fn cache(config: &Config) -> anyhow::Result<String> {
    if config.redis.url.is_empty() {
        return Ok("redis.url is empty: in memory, for `commerce all` only".to_owned());
    }
    let cache = RedisCache::connect(&config.redis.url, config.cache.clone())?;
    cache.read(&[1]).await.with_context(|| format!("{} does not answer", mask_url(&config.redis.url)))?;
    Ok(format!("{} answers", mask_url(&config.redis.url)))
}
