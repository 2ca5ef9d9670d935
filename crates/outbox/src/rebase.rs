//! Makes an outbox that came by dump and restore this server's own.
//!
//! Positions and rows speak of the transaction ids of the server that wrote them, so a relay refuses a restored outbox. A
//! rebase is one transaction that keeps exactly what was not published when the dump was taken, with the same identities and
//! in the same order: what the old server published after that is sent again as the same events, which consumers know.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use thiserror::Error;

use crate::store::guard::{ServerFacts, load_server_facts};
use crate::store::rebase::{self, Findings};

/// Longest wait for writers and relays that are in the middle of something.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Whether a rebase is done, or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebaseMode {
    /// Changes nothing and takes no lock.
    DryRun,
    /// Changes everything in one transaction.
    Apply,
}

/// What a rebase changed, or would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebase {
    /// `system_identifier` of the server of which the positions spoke.
    pub from_server: u64,
    /// `system_identifier` of this server.
    pub to_server: u64,
    /// Shards whose position is put to now.
    pub shards: u64,
    /// Events that stay, to be published; with the identities that they had.
    pub kept: u64,
    /// Events that were published, and are removed.
    pub removed: u64,
    /// Ticks that are removed.
    pub ticks: u64,
}

/// Why nothing was changed.
#[derive(Debug, Error)]
pub enum RebaseError {
    /// The positions are this server's own.
    #[error("the outbox is this server's own: there is nothing to rebase")]
    NotNeeded,
    /// The server is a replica.
    #[error("the server is in recovery: rebase on the primary")]
    InRecovery,
    /// A relay may be at work.
    #[error(
        "relay {owner:?} holds a lease for another {seconds:.1} s: stop the relays, or wait for it to run out"
    )]
    Leased {
        /// Who holds it.
        owner: String,
        /// Time left.
        seconds: f64,
    },
    /// Events to come would stand before those that are there.
    #[error(
        "sequence outbox.event_id stands at {last}, before event {highest}: restore it too \
         (select setval('outbox.event_id', {highest})) before anything is appended"
    )]
    SequenceBehind {
        /// Where the sequence stands.
        last: i64,
        /// The highest id there is.
        highest: i64,
    },
    /// The tables changed while they were read, so that what was told is not what would be done.
    #[error("outbox.{table} changed while it was rebased: {done} rows instead of {told}")]
    Changed {
        /// The table.
        table: &'static str,
        /// Rows that were found.
        told: u64,
        /// Rows that were changed.
        done: u64,
    },
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// Rebases the outbox on the server of `connection`. Safe to repeat: the second time it is not needed.
///
/// # Errors
/// [`RebaseError`]; nothing was changed then.
pub async fn rebase(connection: &mut PgConnection, mode: RebaseMode) -> Result<Rebase, RebaseError> {
    let mut tx = connection.begin().await?;
    rebase::read_committed(&mut tx).await?;
    if mode == RebaseMode::Apply {
        // A replica would answer with an error of its own.
        refuse_replica(&load_server_facts(&mut tx).await?)?;
        rebase::lock_outbox(&mut tx, LOCK_PATIENCE).await?;
    }
    let position = rebase::take_snapshot(&mut tx).await?;
    let told = decide(&mut tx).await?;
    if mode == RebaseMode::Apply {
        apply(&mut tx, &told, &position).await?;
        tx.commit().await?;
    }
    Ok(told)
}

fn refuse_replica(facts: &ServerFacts) -> Result<(), RebaseError> {
    if facts.in_recovery { Err(RebaseError::InRecovery) } else { Ok(()) }
}

async fn decide(connection: &mut PgConnection) -> Result<Rebase, RebaseError> {
    let facts = load_server_facts(connection).await?;
    refuse_replica(&facts)?;
    if facts.other_server.is_none() && !facts.position_ahead {
        return Err(RebaseError::NotNeeded);
    }
    if let Some((owner, seconds)) = rebase::find_live_lease(connection).await? {
        return Err(RebaseError::Leased { owner, seconds });
    }
    let findings = rebase::load_findings(connection).await?;
    if let Some(highest) = findings.highest_id.filter(|highest| *highest > findings.sequence) {
        return Err(RebaseError::SequenceBehind { last: findings.sequence, highest });
    }
    Ok(told(&facts, &findings))
}

fn told(facts: &ServerFacts, findings: &Findings) -> Rebase {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Rebase {
        from_server: findings.from.unwrap_or(facts.system_identifier).cast_unsigned(),
        to_server: facts.system_identifier.cast_unsigned(),
        shards: count(findings.shards),
        kept: count(findings.unpublished),
        removed: count(findings.published),
        ticks: count(findings.ticks),
    }
}

async fn apply(connection: &mut PgConnection, told: &Rebase, position: &str) -> Result<(), RebaseError> {
    let check = |table, told, done| match told == done {
        true => Ok(()),
        false => Err(RebaseError::Changed { table, told, done }),
    };
    check("event", told.removed, rebase::delete_published(connection).await?)?;
    check("event", told.kept, rebase::adopt_unpublished(connection).await?)?;
    check("tick", told.ticks, rebase::delete_ticks(connection).await?)?;
    // Last: the statements above go by the positions.
    check("shard", told.shards, rebase::move_shards(connection, position).await?)
}
