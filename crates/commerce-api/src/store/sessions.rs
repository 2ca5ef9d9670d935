//! `shop.session`: digests of the secrets that browsers keep, with the tokens that they speak for.

use sqlx::PgConnection;

use super::StoreError;

/// Expired sessions that one sign-in clears away.
const CLEARED_MAX: i64 = 100;

/// The digests whose sessions live, with their users: neither they nor their tokens are ended, and the token is a buyer's.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_living_sessions(
    connection: &mut PgConnection,
    digests: &[&[u8]],
) -> Result<Vec<(Vec<u8>, i64)>, StoreError> {
    Ok(sqlx::query_as(
        "select s.digest, t.user_id
           from shop.session s join shop.token t on t.id = s.token_id
          where s.digest = any($1) and s.expires_at > clock_timestamp()
            and t.revoked_at is null and t.expires_at > clock_timestamp() and 'buyer' = any(t.scopes)",
    )
    .bind(digests)
    .fetch_all(connection)
    .await?)
}

/// Begins a session, in the place of `replaced` if that one is there.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn insert_session(
    connection: &mut PgConnection,
    digest: &[u8],
    token_id: i64,
    lifetime_seconds: f64,
    replaced: Option<&[u8]>,
) -> Result<(), StoreError> {
    sqlx::query(
        "with replaced as (delete from shop.session where digest = $4)
         insert into shop.session (digest, token_id, expires_at)
         values ($1, $2, clock_timestamp() + make_interval(secs => $3))",
    )
    .bind(digest)
    .bind(token_id)
    .bind(lifetime_seconds)
    .bind(replaced)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a session; nothing happens when there is none.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn delete_session(connection: &mut PgConnection, digest: &[u8]) -> Result<(), StoreError> {
    sqlx::query("delete from shop.session where digest = $1").bind(digest).execute(connection).await?;
    Ok(())
}

/// Ends the oldest sessions of a token until it has `kept_max`, and clears away some that are expired.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn delete_superfluous_sessions(
    connection: &mut PgConnection,
    token_id: i64,
    kept_max: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "-- Rows that another sign-in is clearing away are its business.
         with superfluous as (
             select digest from shop.session where token_id = $1
              order by begun_at desc, digest offset $2),
         expired as (
             select digest from shop.session where expires_at <= clock_timestamp()
              order by expires_at limit $3),
         gone as (
             select s.digest from shop.session s
              where s.digest in (select digest from superfluous union all select digest from expired)
              order by s.digest
                for update skip locked)
         delete from shop.session s using gone where s.digest = gone.digest",
    )
    .bind(token_id)
    .bind(kept_max)
    .bind(CLEARED_MAX)
    .execute(connection)
    .await?;
    Ok(())
}
