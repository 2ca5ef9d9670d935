//! All SQL of the torture: the oracle's tables, and what wrong relays read.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

/// The oracle: commit order of each key, what must arrive, and positions that went backwards.
const SCHEMA: &str = "
    create schema torture;
    -- Writers serialise on these rows; `changes` is the commit order.
    create table torture.key (key integer primary key, changes bigint not null default 0);
    -- Filled in the transactions of the events.
    create table torture.expected (event_id uuid not null, key integer not null, number bigint not null);
    create table torture.elsewhere (writer integer not null);
    -- Where wrong relays stand that do not use the outbox's positions.
    create table torture.place (txid xid8 not null, id bigint not null);
    insert into torture.place (txid, id) values ('0', 0);
    create table torture.moved_back (shard smallint not null, old_position text not null, new_position text not null);

    create function torture.watch_position() returns trigger language plpgsql as $$
    declare
        old_running bigint := (select count(*) from pg_snapshot_xip(old.position));
        new_running bigint := (select count(*) from pg_snapshot_xip(new.position));
    begin
        -- Of two snapshots with one xmax the later has fewer that run.
        if pg_snapshot_xmax(new.position) < pg_snapshot_xmax(old.position)
           or (pg_snapshot_xmax(new.position) = pg_snapshot_xmax(old.position) and new_running > old_running)
           or (new.position::text = old.position::text
               and coalesce(new.window_last_id, -1) < coalesce(old.window_last_id, -1)) then
            insert into torture.moved_back
            values (new.shard, concat_ws(' ', old.position, old.window_last_id), concat_ws(' ', new.position, new.window_last_id));
        end if;
        return null;
    end $$;
    create trigger watch_position after update of position on outbox.shard
       for each row execute function torture.watch_position();
";

pub(super) async fn create_schema(connection: &mut PgConnection, keys: usize) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SCHEMA).execute(&mut *connection).await?;
    sqlx::query("insert into torture.key (key) select generate_series(0, $1::bigint - 1)")
        .bind(i64::try_from(keys).unwrap_or(i64::MAX))
        .execute(connection)
        .await?;
    Ok(())
}

/// How many transactions may be prepared at the same time.
pub(super) async fn load_prepared_max(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select current_setting('max_prepared_transactions')::bigint")
        .fetch_one(connection)
        .await
}

/// A write without a lock: the transaction gets its id.
pub(super) async fn write_elsewhere(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("insert into torture.elsewhere (writer) values (pg_backend_pid())")
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks the keys in the order of their numbers; answers the committed changes of each.
pub(super) async fn lock_keys(
    connection: &mut PgConnection,
    keys: &[i32],
) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    sqlx::query_as("select key, changes from torture.key where key = any($1) order by key for update")
        .bind(keys)
        .fetch_all(connection)
        .await
}

/// Counts the changes and expects their events.
pub(super) async fn expect_events(
    connection: &mut PgConnection,
    event_ids: &[Uuid],
    keys: &[i32],
    numbers: &[i64],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with change as (select * from unnest($1::uuid[], $2::integer[], $3::bigint[]) as change (event_id, key, number)),
              counted as (update torture.key k set changes = last.number
                            from (select key, max(number) as number from change group by key) as last
                           where k.key = last.key)
         insert into torture.expected select * from change",
    )
    .bind(event_ids)
    .bind(keys)
    .bind(numbers)
    .execute(connection)
    .await?;
    Ok(())
}

/// Prepares the open transaction under a name of ours.
pub(super) async fn prepare(connection: &mut PgConnection, name: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!("prepare transaction '{name}'"))).execute(connection).await?;
    Ok(())
}

/// Ends a prepared transaction.
pub(super) async fn resolve(
    connection: &mut PgConnection,
    name: &str,
    commits: bool,
) -> Result<(), sqlx::Error> {
    let verb = if commits { "commit" } else { "rollback" };
    sqlx::query(AssertSqlSafe(format!("{verb} prepared '{name}'"))).execute(connection).await?;
    Ok(())
}

/// Prepared transactions of this database.
pub(super) async fn list_prepared(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select gid from pg_prepared_xacts where database = current_database()")
        .fetch_all(connection)
        .await
}

/// Everything that must arrive: event, key, and the place in the key's commit order.
pub(super) async fn list_expected(
    connection: &mut PgConnection,
) -> Result<Vec<(Uuid, i32, i64)>, sqlx::Error> {
    sqlx::query_as("select event_id, key, number from torture.expected").fetch_all(connection).await
}

/// Owners of shards, whoever owns most first.
pub(super) async fn list_owners(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select owner from outbox.shard where lease_until > clock_timestamp() group by owner order by count(*) desc",
    )
    .fetch_all(connection)
    .await
}

pub(super) async fn count_moved_back(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from torture.moved_back").fetch_one(connection).await
}

/// The wrong retention: whatever is older than `age` goes, published or not.
pub(super) async fn delete_older(connection: &mut PgConnection, age: Duration) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "delete from outbox.event where occurred_at < clock_timestamp() - make_interval(secs => $1)",
    )
    .bind(age.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// A row as the wrong relays read it.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct PlainRow {
    pub(super) txid: String,
    pub(super) id: i64,
    pub(super) event_id: Uuid,
    pub(super) topic: String,
    pub(super) partition_key: String,
    pub(super) payload: Option<Vec<u8>>,
}

/// Waits until no other wrong relay works, for as long as this connection lives.
pub(super) async fn lock_alone(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_lock(hashtext('torture.place'))").execute(connection).await?;
    Ok(())
}

/// Rows above the last id that was read.
pub(super) async fn list_above_id(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<PlainRow>, sqlx::Error> {
    sqlx::query_as(
        "select txid::text, id, event_id, topic, partition_key, payload from outbox.event
          where id > (select id from torture.place) order by id limit $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Rows below the oldest running transaction, by transaction and id.
pub(super) async fn list_below_xmin(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<PlainRow>, sqlx::Error> {
    sqlx::query_as(
        "select e.txid::text, e.id, event_id, topic, partition_key, payload from outbox.event e, torture.place p
          where (e.txid, e.id) > (p.txid, p.id) and e.txid < pg_snapshot_xmin(pg_current_snapshot())
          order by e.txid, e.id limit $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await
}

pub(super) async fn set_place(connection: &mut PgConnection, txid: &str, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("update torture.place set txid = $1::text::xid8, id = $2")
        .bind(txid)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}
