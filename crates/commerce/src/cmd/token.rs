//! `commerce token`: issue tokens for callers, look at them, or revoke them.
//!
//! A token is shown once, when it is issued, on standard output and nowhere else. None is ever taken from the command line,
//! which other users of the machine can read.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use commerce_api::tokens::{self, IssuedToken, NewToken, Revocation, Revoked, Scope, TokenRow};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::output::answer;
use super::terminal::printable;
use crate::config::{Config, mask_url};

/// More of standard input is not read: a token is far shorter.
const INPUT_BYTES_MAX: u64 = 4_096;

/// What `commerce token` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Issue a token and print it, for the only time
    Issue(Issue),
    /// List tokens, the newest first; the tokens themselves are not known any more
    List(List),
    /// Revoke tokens for ever; every api refuses them within a second
    Revoke(Revoke),
}

#[derive(clap::Args)]
struct Issue {
    /// As whom it calls
    #[arg(long, value_name = "ID")]
    user: i64,
    /// What it may be used for; may be repeated
    #[arg(long, required = true)]
    scope: Vec<ScopeArgument>,
    /// How long it lives, as in 12h or 30d
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ScopeArgument {
    Buyer,
    Admin,
}

impl From<ScopeArgument> for Scope {
    fn from(scope: ScopeArgument) -> Self {
        match scope {
            ScopeArgument::Buyer => Self::Buyer,
            ScopeArgument::Admin => Self::Admin,
        }
    }
}

#[derive(clap::Args)]
struct List {
    /// Of this user only
    #[arg(long, value_name = "ID")]
    user: Option<i64>,
    /// Most tokens that are listed
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Write the answer as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Revoke {
    #[command(flatten)]
    which: Which,
    /// Write the answer as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Exactly one of the three.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Its id, as listed
    id: Option<i64>,
    /// Every token of this user
    #[arg(long, value_name = "ID")]
    user: Option<i64>,
    /// The token that stands in standard input: one that was found where it should not be
    #[arg(long)]
    stdin: bool,
}

pub(crate) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let options = runtime::database::connect_options(&config.database.url, "commerce-token")?;
    let mut connection = PgConnection::connect_with(&options)
        .await
        .with_context(|| format!("{} does not answer", mask_url(&config.database.url)))?;
    match arguments.command {
        Command::Issue(arguments) => issue(config, &mut connection, arguments).await?,
        Command::List(arguments) => list(&mut connection, &arguments).await?,
        Command::Revoke(arguments) => revoke(&mut connection, &arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn issue(config: &Config, connection: &mut PgConnection, arguments: Issue) -> anyhow::Result<()> {
    let Issue { user, scope, expires, label } = arguments;
    let scopes = scope.into_iter().map(Into::into).collect();
    let new = NewToken { user_id: user, scopes, label, lifetime: expires };
    let IssuedToken { id, expires_at, text } =
        tokens::issue(connection, &new, config.auth.token_lifetime_max).await?;
    eprintln!("token {id} of user {user} lives until {}; it is not shown again:", time(expires_at));
    writeln!(std::io::stdout(), "{}", text.reveal())
        .with_context(|| format!("token {id} could not be shown: revoke it"))
}

async fn list(connection: &mut PgConnection, arguments: &List) -> anyhow::Result<()> {
    let rows = tokens::list(connection, arguments.user, arguments.limit).await?;
    answer(arguments.json.as_deref(), || Value::Array(rows.iter().map(row_json).collect()), || table(&rows))
}

async fn revoke(connection: &mut PgConnection, arguments: &Revoke) -> anyhow::Result<()> {
    let json = arguments.json.as_deref();
    match &arguments.which {
        Which { user: Some(user), .. } => {
            report(json, &tokens::revoke(connection, Revocation::User(*user)).await?)
        }
        Which { id: Some(id), .. } => {
            let revoked = tokens::revoke(connection, Revocation::Id(*id)).await?;
            if revoked.matched == 0 {
                bail!("no token has the id {id}");
            }
            report(json, &revoked)
        }
        Which { .. } => {
            let mut text = String::new();
            std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text).context("reading the token")?;
            let revoked = tokens::revoke(connection, Revocation::Text(text.trim())).await?;
            if revoked.matched == 0 {
                bail!("what stands in standard input is no token of this shop");
            }
            report(json, &revoked)
        }
    }
}

fn report(json: Option<&Path>, revoked: &Revoked) -> anyhow::Result<()> {
    let Revoked { matched, ids } = revoked;
    answer(
        json,
        || json!({"matched": matched, "revoked": ids}),
        || {
            let named: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
            format!("{matched} tokens match, {} revoked now{named}\n", ids.len())
        },
    )
}

fn table(rows: &[TokenRow]) -> String {
    if rows.is_empty() {
        return "no token matches\n".to_owned();
    }
    let mut text = format!(
        "{:>8}  {:>12}  {:<12}  {:<8}  {:<20}  {:<20}  {}\n",
        "ID", "USER", "SCOPES", "STATE", "ISSUED AT", "EXPIRES AT", "LABEL"
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>8}  {:>12}  {:<12}  {:<8}  {:<20}  {:<20}  {}",
            row.id,
            row.user_id,
            row.scopes.join(","),
            row.state,
            time(row.issued_at),
            time(row.expires_at),
            printable(row.label.as_deref().unwrap_or("-")),
        );
    }
    text
}

fn row_json(row: &TokenRow) -> Value {
    json!({
        "id": row.id,
        "userId": row.user_id,
        "scopes": row.scopes,
        "state": row.state,
        "label": row.label,
        "issuedAt": row.issued_at,
        "expiresAt": row.expires_at,
        "revokedAt": row.revoked_at,
    })
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
