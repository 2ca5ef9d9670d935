//! Promise P8, asked in a snapshot several times a second while everything happens.

use std::time::Duration;

use anyhow::Result;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::store;

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

/// Asks until it is stopped.
pub(crate) async fn check(stage: &Stage, stop: &CancellationToken) -> Result<Checked> {
    let mut connection = stage.connect().await?;
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut checked = Checked::default();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        checked.snapshots += 1;
        if let Some(text) = difference(&mut connection).await? {
            checked.wrong += 1;
            checked.first.get_or_insert(text);
        }
    }
    Ok(checked)
}

/// What is wrong in this instant.
async fn difference(connection: &mut PgConnection) -> Result<Option<String>> {
    let mut tx = connection.begin_with("begin isolation level repeatable read").await?;
    let balance = inbox::progress::check_balance(&mut tx).await?;
    let (effects, counted) = store::count_effects(&mut tx).await?;
    tx.rollback().await?;
    let handled: i64 = balance.groups.iter().map(|group| group.handled).sum();
    if balance.is_exact() && effects == handled && counted == handled {
        return Ok(None);
    }
    Ok(Some(format!("{effects} effects, counters of {counted} events, {balance:?}")))
}
