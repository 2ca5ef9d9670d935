//! Statements that make the outbox of another server this server's own.

use std::time::Duration;

use sqlx::PgConnection;

/// Shards whose positions do not speak of this server's transactions, and the rows of theirs that are published.
///
/// A row counts as published only if it was appended on the server of which the position speaks: whatever else is there
/// was not seen by a relay under that position, or it cannot be told, and is better sent twice than not at all.
macro_rules! foreign {
    () => {
        "with server as (select system_identifier from pg_control_system()),
              moved as (
             select shard.*, server.system_identifier <> shard.system_identifier as is_other
               from outbox.shard shard, server
              where shard.system_identifier <> server.system_identifier
                 or pg_snapshot_xmax(shard.position) > pg_snapshot_xmax(pg_current_snapshot())),
              judged as (
             select event.tableoid, event.ctid, event.id,
                    moved.is_other
                    and event.system_identifier = moved.system_identifier
                    and (pg_visible_in_snapshot(event.txid, moved.position)
                         or coalesce(pg_visible_in_snapshot(event.txid, moved.window_end)
                                     and event.id <= moved.window_last_id, false)) as is_published
               from outbox.event event
               join moved on moved.shard = event.shard)"
    };
}

/// What a rebase finds.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Findings {
    pub(crate) shards: i64,
    pub(crate) published: i64,
    pub(crate) unpublished: i64,
    pub(crate) ticks: i64,
    /// The server of which the positions speak.
    pub(crate) from: Option<i64>,
    pub(crate) highest_id: Option<i64>,
    pub(crate) sequence: i64,
}

pub(crate) async fn load_findings(connection: &mut PgConnection) -> Result<Findings, sqlx::Error> {
    sqlx::query_as(concat!(
        foreign!(),
        " select (select count(*) from moved) as shards,
                 (select min(system_identifier) from moved) as \"from\",
                 (select count(*) from outbox.tick) as ticks,
                 (select last_value from outbox.event_id) as sequence,
                 count(*) filter (where is_published) as published,
                 count(*) filter (where not is_published) as unpublished,
                 max(id) as highest_id
            from judged"
    ))
    .fetch_one(connection)
    .await
}

/// The owner of a lease that has not run out, and the seconds that it has left.
pub(crate) async fn find_live_lease(
    connection: &mut PgConnection,
) -> Result<Option<(String, f64)>, sqlx::Error> {
    sqlx::query_as(
        "select coalesce(owner, ''), extract(epoch from lease_until - clock_timestamp())::float8
           from outbox.shard
          where lease_until > clock_timestamp()
          order by lease_until desc
          limit 1",
    )
    .fetch_optional(connection)
    .await
}

/// Each statement of the transaction is to see what was committed before it, whatever the default is.
pub(crate) async fn read_committed(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("set local transaction isolation level read committed").execute(connection).await?;
    Ok(())
}

/// Keeps writers and relays out until the transaction ends, and waits for those that have begun.
pub(crate) async fn lock_outbox(
    connection: &mut PgConnection,
    patience: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", patience.as_millis()))
        .execute(&mut *connection)
        .await?;
    // Not exclusive: that lock would give the transaction its id before the position's snapshot is taken.
    sqlx::query(
        "lock table outbox.event, outbox.shard, outbox.tick, outbox.relay in share row exclusive mode",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A snapshot that does not see the transaction that takes it, because that has no id yet.
pub(crate) async fn take_snapshot(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(connection).await
}

pub(crate) async fn delete_published(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(concat!(
        foreign!(),
        " delete from outbox.event using judged
           where event.tableoid = judged.tableoid and event.ctid = judged.ctid and judged.is_published"
    ))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Makes the rows that are left rows of this transaction; their identities and their order by id stay.
pub(crate) async fn adopt_unpublished(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(concat!(
        foreign!(),
        " update outbox.event set txid = pg_current_xact_id()
            from judged
           where event.tableoid = judged.tableoid and event.ctid = judged.ctid"
    ))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(crate) async fn delete_ticks(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query("delete from outbox.tick").execute(connection).await?.rows_affected())
}

/// Puts the shards to `position`, which is one of this server; nobody owns them any more.
pub(crate) async fn move_shards(connection: &mut PgConnection, position: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(concat!(
        foreign!(),
        " update outbox.shard
             set owner = null, epoch = shard.epoch + 1, lease_until = '-infinity',
                 position = $1::text::pg_snapshot, window_end = null, window_last_id = null,
                 system_identifier = server.system_identifier
            from moved, server
           where moved.shard = shard.shard"
    ))
    .bind(position)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
