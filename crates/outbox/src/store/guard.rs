//! What the relay must know about the server before it may trust positions.

use sqlx::PgConnection;

/// The server as the relay finds it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ServerFacts {
    pub(crate) in_recovery: bool,
    pub(crate) system_identifier: i64,
    /// Another server of whose transactions a position speaks.
    pub(crate) other_server: Option<i64>,
    pub(crate) shards: i64,
    pub(crate) sequence_cache: i64,
    /// Whether a position lies ahead of the server's own transactions.
    pub(crate) position_ahead: bool,
}

pub(crate) async fn load_server_facts(connection: &mut PgConnection) -> Result<ServerFacts, sqlx::Error> {
    sqlx::query_as(
        "select pg_is_in_recovery() as in_recovery,
                server.system_identifier,
                min(shard.system_identifier) filter (where shard.system_identifier <> server.system_identifier)
                    as other_server,
                count(shard.shard) as shards,
                (select seqcache from pg_sequence where seqrelid = 'outbox.event_id'::regclass) as sequence_cache,
                coalesce(bool_or(pg_snapshot_xmax(position) > pg_snapshot_xmax(pg_current_snapshot())), false)
                    as position_ahead
           from pg_control_system() server
           left join outbox.shard shard on true
          group by server.system_identifier",
    )
    .fetch_one(connection)
    .await
}
