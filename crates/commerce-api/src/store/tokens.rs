//! `shop.token`: digests of tokens, with whom they speak for and how long.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreError;
use crate::domain::token::TokenDigest;

/// A token that is worth something now.
#[derive(sqlx::FromRow)]
pub(crate) struct LivingRow {
    pub(crate) digest: Vec<u8>,
    pub(crate) id: i64,
    pub(crate) user_id: i64,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires_at: DateTime<Utc>,
}

/// A token as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TokenRow {
    /// What operators call it.
    pub id: i64,
    /// As whom it calls.
    pub user_id: i64,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// What it is for.
    pub label: Option<String>,
    /// When it was issued.
    pub issued_at: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// `living`, `expired` or `revoked`, by the database's clock.
    pub state: String,
}

/// Which tokens: those that any part names.
#[derive(Default)]
pub(crate) struct TokenFilter {
    pub(crate) id: Option<i64>,
    pub(crate) user_id: Option<i64>,
    pub(crate) digest: Option<TokenDigest>,
}

/// What came of a revocation.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Revoked {
    /// Tokens that match.
    pub matched: i64,
    /// Those that were revoked now; the others had been before.
    pub ids: Vec<i64>,
}

/// Those of the digests whose tokens are neither expired nor revoked.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_living(
    connection: &mut PgConnection,
    digests: &[&[u8]],
) -> Result<Vec<LivingRow>, StoreError> {
    Ok(sqlx::query_as(
        "select digest, id, user_id, scopes, expires_at from shop.token
          where digest = any($1) and revoked_at is null and expires_at > clock_timestamp()",
    )
    .bind(digests)
    .fetch_all(connection)
    .await?)
}

/// Stores a token; answers its id and when it ends.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn insert_token(
    connection: &mut PgConnection,
    digest: &[u8],
    user_id: i64,
    scopes: &[&str],
    label: Option<&str>,
    lifetime_seconds: f64,
) -> Result<(i64, DateTime<Utc>), StoreError> {
    Ok(sqlx::query_as(
        "insert into shop.token (digest, user_id, scopes, label, expires_at)
         values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
         returning id, expires_at",
    )
    .bind(digest)
    .bind(user_id)
    .bind(scopes)
    .bind(label)
    .bind(lifetime_seconds)
    .fetch_one(connection)
    .await?)
}

/// Tokens, the newest first, of a user if one is named.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_tokens(
    connection: &mut PgConnection,
    user_id: Option<i64>,
    limit: u32,
) -> Result<Vec<TokenRow>, StoreError> {
    Ok(sqlx::query_as(
        "select id, user_id, scopes, label, issued_at, expires_at, revoked_at,
                case when revoked_at is not null then 'revoked'
                     when expires_at <= clock_timestamp() then 'expired'
                     else 'living' end as state
           from shop.token
          where $1::bigint is null or user_id = $1
          order by id desc
          limit $2",
    )
    .bind(user_id)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?)
}

/// Revokes the tokens that match and are not revoked yet.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn revoke_tokens(
    connection: &mut PgConnection,
    filter: &TokenFilter,
) -> Result<Revoked, StoreError> {
    Ok(sqlx::query_as(
        "-- Locked, so that of two operators one revokes and the other finds it done.
         with matching as (
             select id, revoked_at from shop.token
              where id = $1 or user_id = $2 or digest = $3
              order by id
                for update),
         revoked as (
             update shop.token t set revoked_at = clock_timestamp()
               from matching m
              where t.id = m.id and m.revoked_at is null
             returning t.id)
         select (select count(*) from matching) as matched,
                coalesce((select array_agg(id order by id) from revoked), '{}') as ids",
    )
    .bind(filter.id)
    .bind(filter.user_id)
    .bind(filter.digest.map(|digest| digest.0))
    .fetch_one(connection)
    .await?)
}
