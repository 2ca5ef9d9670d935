//! What the demo asks PostgreSQL: its own database, how far the pipeline is, and what it holds.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

/// Options without the log line for each statement.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("commerce-demo").disable_statement_logging())
}

/// Creates an empty database on the server of `server_url`; answers its URL. `name` is an identifier of our own making.
pub(super) async fn create_database(server_url: &str, name: &str) -> Result<String, sqlx::Error> {
    let server = options(server_url)?;
    let mut connection = PgConnection::connect_with(&server).await?;
    connection.execute(AssertSqlSafe(format!("create database {name}"))).await?;
    connection.close().await?;
    Ok(server.database(name).to_url_lossy().to_string())
}

/// Drops it and ends every connection to it.
pub(super) async fn drop_database(server_url: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(&options(server_url)?).await?;
    connection.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
    connection.close().await
}

/// A dead letter's origin.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct DeadLetter {
    pub(super) topic: String,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) reason: String,
}

/// Every dead letter.
pub(super) async fn dead_letters(connection: &mut PgConnection) -> Result<Vec<DeadLetter>, sqlx::Error> {
    sqlx::query_as("select topic, key, value, reason from inbox.dead_letter").fetch_all(connection).await
}

/// Minor units sold by product.
pub(super) async fn sales_amounts(connection: &mut PgConnection) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    sqlx::query_as("select product_id, sales_amount from metrics.product_metrics").fetch_all(connection).await
}

/// The likes that one product shows; 0 before its first event.
pub(super) async fn like_count(connection: &mut PgConnection, product_id: i64) -> Result<i64, sqlx::Error> {
    let count = sqlx::query_scalar("select like_count from metrics.product_metrics where product_id = $1")
        .bind(product_id)
        .fetch_optional(connection)
        .await?;
    Ok(count.unwrap_or(0))
}
