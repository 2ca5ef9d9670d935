//! Promise P8, asked in a snapshot several times a second while everything happens.

use std::time::Duration;

use anyhow::Result;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::store;
use crate::Server;

/// Time between two snapshots.
const INTERVAL: Duration = Duration::from_millis(200);

/// What the snapshots showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    pub(crate) snapshots: u64,
    /// Those in which a sum was wrong.
    pub(crate) wrong: u64,
    /// What was wrong first.
    pub(crate) first: Option<String>,
}

/// Asks until it is stopped. While `postgres` is away nobody can be asked.
pub(crate) async fn check(
    stage: &Stage,
    postgres: Option<&Server>,
    stop: &CancellationToken,
) -> Result<Checked> {
    let is_away = || postgres.is_some_and(Server::is_away);
    let mut connection = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut checked = Checked::default();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let was_away = is_away();
        match look(stage, &mut connection).await {
            Ok(difference) => {
                checked.snapshots += 1;
                checked.wrong += u64::from(difference.is_some());
                checked.first = checked.first.or(difference);
            }
            Err(_) if was_away || is_away() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(checked)
}

/// Keeps its connection only after a success: one that failed may be gone with its server.
async fn look(stage: &Stage, place: &mut Option<PgConnection>) -> Result<Option<String>> {
    let mut connection = match place.take() {
        Some(connection) => connection,
        None => stage.connect().await?,
    };
    let difference = difference(&mut connection).await?;
    *place = Some(connection);
    Ok(difference)
}

/// What is wrong in this instant.
async fn difference(connection: &mut PgConnection) -> Result<Option<String>> {
    let mut tx = connection.begin_with("begin isolation level repeatable read").await?;
    let balance = inbox::progress::check_balance(&mut tx).await?;
    let (effects, counted) = store::count_effects(&mut tx).await?;
    tx.rollback().await?;
    let handled: i64 = balance.groups.iter().map(|group| group.handled + group.released).sum();
    if balance.is_exact() && effects == handled && counted == handled {
        return Ok(None);
    }
    Ok(Some(format!("{effects} effects, counters of {counted} events, {balance:?}")))
}
