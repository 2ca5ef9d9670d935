//! The ceiling of a product's page: a bare axum handler, in a process of its own as the api is, that reads card and tombstone by the
//! same `MGET` and answers the card's bytes as they are.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use redis::aio::ConnectionManager;
use tokio::net::{TcpListener, TcpStream};

use crate::pipeline::Role;

/// `bare-page`, started by `api`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port
    #[arg(long)]
    listen: SocketAddr,
    /// In front of every key
    #[arg(long)]
    key_prefix: String,
}

struct Cards {
    connection: ConnectionManager,
    key_prefix: String,
}

/// Serves until it is killed.
pub(crate) async fn serve(arguments: Arguments) -> Result<()> {
    let url = std::env::var("COMMERCE_REDIS_URL").context("COMMERCE_REDIS_URL")?;
    let connection = redis::Client::open(url)?.get_connection_manager().await?;
    let cards = Cards { connection, key_prefix: arguments.key_prefix };
    let router = Router::new().route("/api/v1/products/{id}", get(show)).with_state(Arc::new(cards));
    let listener = TcpListener::bind(arguments.listen).await?.tap_io(|stream| {
        // As the api does; without it an answer would only come later.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

async fn show(State(cards): State<Arc<Cards>>, Path(id): Path<i64>) -> Response {
    let prefix = &cards.key_prefix;
    let mut command = redis::cmd("MGET");
    command.arg(format!("{prefix}card:{{{id}}}")).arg(format!("{prefix}inv:{{{id}}}"));
    let read: redis::RedisResult<Vec<Option<Vec<u8>>>> =
        command.query_async(&mut cards.connection.clone()).await;
    match read.map(|values| values.into_iter().next().flatten()) {
        Ok(Some(card)) => ([(header::CONTENT_TYPE, "application/json")], card).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// The process; killed when dropped.
pub(super) struct BarePage(Role);

impl BarePage {
    /// Starts it over the cards of `key_prefix` and waits until it accepts connections.
    pub(super) async fn start(address: &str, key_prefix: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare-page", "--listen", address, "--key-prefix", key_prefix]).stdin(Stdio::null());
        let mut page = Self(Role::spawn(&mut command)?);
        while TcpStream::connect(address).await.is_err() {
            page.0.ensure_running()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(page)
    }

    pub(super) fn role(&self) -> &Role {
        &self.0
    }
}
