//! Ticks: snapshots that are taken each second.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

/// Key of the advisory lock under which ticks are taken (`outb` `tick` in ASCII).
const LOCK_KEY: i64 = 0x6f75_7462_7469_636b;

/// Takes a tick unless another process holds the lock or the last tick is younger than `age_min`.
///
/// The snapshot must be taken by a statement that starts after the lock is held, or two tickers could store theirs in
/// the wrong order: hence two statements of a `read committed` transaction. It commits behind everything that its snapshot
/// sees and waits for the disk, whatever the default is: what a visible tick sees is flushed.
pub(crate) async fn take_tick(connection: &mut PgConnection, age_min: Duration) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("set local transaction isolation level read committed").execute(&mut *tx).await?;
    let (locked, _): (bool, String) = sqlx::query_as(
        "select pg_try_advisory_xact_lock($1), set_config('synchronous_commit', 'local', true)",
    )
    .bind(LOCK_KEY)
    .fetch_one(&mut *tx)
    .await?;
    if !locked {
        return Ok(false);
    }
    // A last tick that lies in the future is that of a clock set back; it must not stop the ticks.
    let done = sqlx::query(
        "insert into outbox.tick (snapshot)
         select pg_current_snapshot()
          where not exists (select from (select taken_at from outbox.tick order by id desc limit 1) as last
                             where last.taken_at between clock_timestamp() - make_interval(secs => $1)
                                                     and clock_timestamp())",
    )
    .bind(age_min.as_secs_f64())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes the ticks that lie behind the position of every shard: no window can end at them any more.
pub(crate) async fn prune_ticks(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "delete from outbox.tick
          where pg_snapshot_xmax(snapshot) <= (select min(pg_snapshot_xmax(position)) from outbox.shard)
            and id < (select max(id) from outbox.tick)",
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
