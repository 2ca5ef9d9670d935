//! The living relays: rows of `outbox.relay`.

use std::time::Duration;

use sqlx::PgConnection;

use super::shard::{Epochs, fenced};

/// A living relay and what it owns, with what nobody owns.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct MemberRow {
    pub(crate) owner: String,
    /// Shards under a lease of this relay; the caller's own also when the lease has run out.
    pub(crate) shards: i64,
    /// Shards that the caller may claim; the same in every row.
    pub(crate) claimable: i64,
}

/// Says that `owner` lives, and forgets relays that have not said so for longer than their lease.
pub(crate) async fn join_relays(
    connection: &mut PgConnection,
    owner: &str,
    lease: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with dead as (
             -- Rows that another relay deletes or prolongs at this moment are not waited for.
             select owner from outbox.relay
              where seen_until <= clock_timestamp() and owner <> $1
                for update skip locked),
              forgotten as (delete from outbox.relay r using dead where r.owner = dead.owner)
         insert into outbox.relay (owner, seen_until)
         values ($1, clock_timestamp() + make_interval(secs => $2))
             on conflict (owner) do update set seen_until = excluded.seen_until",
    )
    .bind(owner)
    .bind(lease.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(())
}

/// The living relays, `owner` among them if it has joined, and the shards that `owner` may claim.
pub(crate) async fn list_members(
    connection: &mut PgConnection,
    owner: &str,
) -> Result<Vec<MemberRow>, sqlx::Error> {
    sqlx::query_as(
        "select member.owner, count(shard.shard) as shards,
                (select count(*) from outbox.shard
                  where owner is null or (owner <> $1 and lease_until <= clock_timestamp())) as claimable
           from outbox.relay member
           left join outbox.shard shard
             on shard.owner = member.owner
            and (shard.lease_until > clock_timestamp() or shard.owner = $1)
          where member.seen_until > clock_timestamp()
          group by member.owner",
    )
    .bind(owner)
    .fetch_all(connection)
    .await
}

/// Prolongs the leases, and the life of their owner; answers how many shards are still owned under their epoch.
pub(crate) async fn renew_leases(
    connection: &mut PgConnection,
    owner: &str,
    owned: &Epochs,
    lease: Duration,
) -> Result<u64, sqlx::Error> {
    let owned = fenced(connection, owned).await?;
    let done = sqlx::query(
        "with alive as (
             insert into outbox.relay (owner, seen_until)
             values ($4, clock_timestamp() + make_interval(secs => $3))
                 on conflict (owner) do update set seen_until = excluded.seen_until)
         update outbox.shard s
            set lease_until = clock_timestamp() + make_interval(secs => $3)
           from unnest($1::smallint[], $2::bigint[]) as owned (shard, epoch)
          where s.shard = owned.shard and s.epoch = owned.epoch",
    )
    .bind(&owned.shards)
    .bind(&owned.epochs)
    .bind(lease.as_secs_f64())
    .bind(owner)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Takes `owner` off the living relays, so that the others share its shards at once.
pub(crate) async fn leave_relays(connection: &mut PgConnection, owner: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from outbox.relay where owner = $1").bind(owner).execute(connection).await?;
    Ok(())
}
