//! What must hold before positions may be trusted.

use sqlx::PgConnection;
use thiserror::Error;

use super::session::SessionError;
use crate::SHARDS;
use crate::store::guard::{ServerFacts, load_server_facts};

/// Why a relay must not work on this server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A replica's snapshots are not those of the primary.
    #[error("the server is in recovery: give the relay the primary's address")]
    InRecovery,
    /// The tables came from another server by dump and restore, so the positions speak of other transactions.
    #[error(
        "the positions in outbox.shard belong to server {stored}, this is server {found}: the database was restored \
         from a dump: rebase the outbox (README.md of the outbox)"
    )]
    OtherServer {
        /// Servers of which the positions speak.
        stored: String,
        /// This server's `system_identifier`.
        found: String,
    },
    /// A position lies ahead of the server's transactions.
    #[error(
        "a position in outbox.shard lies ahead of the server's transactions: rebase the outbox (README.md of the outbox)"
    )]
    PositionAhead,
    /// Ids would not follow the order of commits.
    #[error("sequence outbox.event_id caches {0} values: alter sequence outbox.event_id cache 1")]
    SequenceCache(i64),
    /// The shard table is not whole.
    #[error("outbox.shard has {0} rows, {SHARDS} are needed: run the migrations")]
    Shards(i64),
}

/// Refuses a server on which windows would be wrong.
pub(crate) async fn guard(connection: &mut PgConnection) -> Result<(), SessionError> {
    match find_refusal(connection).await {
        Ok(None) => Ok(()),
        Ok(Some(refusal)) => Err(SessionError::Refused(refusal)),
        Err(error) => Err(SessionError::Database(error)),
    }
}

/// Why a relay would refuse the server of `connection`, if it would.
///
/// # Errors
/// The database's failure.
pub async fn find_refusal(connection: &mut PgConnection) -> Result<Option<Refusal>, sqlx::Error> {
    Ok(decide_refusal(&load_server_facts(connection).await?))
}

fn decide_refusal(facts: &ServerFacts) -> Option<Refusal> {
    if facts.in_recovery {
        Some(Refusal::InRecovery)
    } else if facts.shards != i64::from(SHARDS) {
        Some(Refusal::Shards(facts.shards))
    } else if let Some(stored) = facts.other_server {
        let name = |identifier: i64| identifier.cast_unsigned().to_string();
        Some(Refusal::OtherServer { stored: name(stored), found: name(facts.system_identifier) })
    } else if facts.position_ahead {
        Some(Refusal::PositionAhead)
    } else if facts.sequence_cache != 1 {
        Some(Refusal::SequenceCache(facts.sequence_cache))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_refused_whatever_else_is_wrong() {
        let good = ServerFacts {
            in_recovery: false,
            system_identifier: 1,
            other_server: None,
            shards: i64::from(SHARDS),
            sequence_cache: 1,
            position_ahead: false,
        };
        assert_eq!(decide_refusal(&good), None);
        let replica = ServerFacts { in_recovery: true, position_ahead: true, ..good };
        assert_eq!(decide_refusal(&replica), Some(Refusal::InRecovery));
    }
}
