//! `metrics.product_stock` and the cache intents.

use std::time::Duration;

use sqlx::PgConnection;

use crate::projections::stock::State;

fn columns(states: &[State]) -> (Vec<i64>, Vec<i64>, Vec<bool>) {
    (
        states.iter().map(|state| state.product_id).collect(),
        states.iter().map(|state| state.version).collect(),
        states.iter().map(|state| state.sold_out).collect(),
    )
}

/// Replaces what is older, and notes for each replaced state that the cache is owed an invalidation. `states`: one a
/// product, sorted. Answers how many were replaced.
pub(crate) async fn replace_states(tx: &mut PgConnection, states: &[State]) -> Result<usize, sqlx::Error> {
    let (product_ids, versions, sold_outs) = columns(states);
    let done = sqlx::query(
        // replaced: the states that were newer than what is stored, and only those.
        "with replaced as (
             insert into metrics.product_stock as s (product_id, version, sold_out)
             select * from unnest($1::bigint[], $2::bigint[], $3::boolean[])
             on conflict (product_id) do update
                set version = excluded.version, sold_out = excluded.sold_out, updated_at = clock_timestamp()
              where s.version < excluded.version
             returning product_id, version, sold_out)
         insert into metrics.cache_intent as i (product_id, version, sold_out)
         select product_id, version, sold_out from replaced order by product_id
         on conflict (product_id) do update
            set version = excluded.version, sold_out = excluded.sold_out, created_at = clock_timestamp()
          where i.version < excluded.version",
    )
    .bind(product_ids)
    .bind(versions)
    .bind(sold_outs)
    .execute(tx)
    .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// Clears what has been done: intents up to the versions of `states`.
pub(crate) async fn clear_intents(
    connection: &mut PgConnection,
    states: &[State],
) -> Result<(), sqlx::Error> {
    let (product_ids, versions, _) = columns(states);
    sqlx::query(
        "delete from metrics.cache_intent i
          using unnest($1::bigint[], $2::bigint[]) as done (product_id, version)
          where i.product_id = done.product_id and i.version <= done.version",
    )
    .bind(product_ids)
    .bind(versions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes up to `limit` intents that have waited for `age`, locked until the transaction ends; those that a peer has
/// taken are left to it.
pub(crate) async fn lock_owed_intents(
    tx: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<Vec<State>, sqlx::Error> {
    let rows: Vec<(i64, i64, bool)> = sqlx::query_as(
        "select product_id, version, sold_out from metrics.cache_intent
          where created_at < clock_timestamp() - make_interval(secs => $1)
          order by created_at limit $2
            for update skip locked",
    )
    .bind(age.as_secs_f64())
    .bind(limit)
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(product_id, version, sold_out)| State { product_id, version, sold_out })
        .collect())
}

/// How many invalidations are owed, and for how many seconds the oldest of them.
pub(crate) async fn measure_intents(connection: &mut PgConnection) -> Result<(i64, f64), sqlx::Error> {
    sqlx::query_as(
        "select count(*),
                greatest(0, coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0))::float8
           from metrics.cache_intent",
    )
    .fetch_one(connection)
    .await
}

/// How many invalidations are owed.
///
/// # Errors
/// The database's.
pub async fn owed_intents(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from metrics.cache_intent").fetch_one(connection).await
}
