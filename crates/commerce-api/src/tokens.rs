//! Tokens: issued once, known by their digest, checked on every request, revoked within a second.
//!
//! Invariants: nobody can tell a token from what is stored; an answer about a token is believed for
//! `auth.token_age_max` from before its read, so that what is revoked or expired is refused by every process after that
//! time; what does not look like a token asks nobody. Only living tokens are remembered: what a stranger invents takes no
//! room from them, and costs a place in the next batched read. The database's clock alone decides what is expired.
//! Deliberately absent: when a token was last used, which every request would have to write.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtime::database::Pool;
use sqlx::PgConnection;
use thiserror::Error;

use crate::batch_reader::{Loaded, Source};
use crate::domain::secret::SECRET_BYTES;
use crate::domain::token::TokenDigest;
pub use crate::domain::token::{Scope, TokenText};
use crate::error::ApiError;
use crate::remembered::{JointMemoryTask, MemoryLimits, Remembered, remembered_together};
pub use crate::store::tokens::{Revoked, TokenRow};
use crate::store::tokens::{TokenFilter, insert_token, list_living, list_tokens, revoke_tokens};
use crate::store::{Session, StoreError};

/// Bytes of a label.
pub const LABEL_BYTES_MAX: usize = 200;

/// What a living token grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The token's, which is no secret.
    pub(crate) token_id: i64,
    pub(crate) user_id: i64,
    pub(crate) scopes: Scopes,
    pub(crate) expires_at: DateTime<Utc>,
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scopes {
    pub(crate) is_buyer: bool,
    pub(crate) is_admin: bool,
}

impl Scopes {
    fn new(stored: &[String]) -> Self {
        let has = |scope: Scope| stored.iter().any(|name| name == scope.as_str());
        Self { is_buyer: has(Scope::Buyer), is_admin: has(Scope::Admin) }
    }
}

/// Tokens from the shop's database.
pub(crate) struct TokenSource {
    pool: Pool,
}

impl Source for TokenSource {
    type Key = TokenDigest;
    type Value = Grant;

    async fn load(&self, digests: &[TokenDigest]) -> Loaded<TokenDigest, Grant> {
        let asked: Vec<&[u8]> = digests.iter().map(|digest| &digest.0[..]).collect();
        let mut session = Session::open(&self.pool).await?;
        let rows = list_living(&mut session, &asked).await?;
        session.release();
        let mut grants = HashMap::with_capacity(rows.len());
        for row in rows {
            // Always: the column has a constraint.
            let Ok(digest) = row.digest.try_into() else { continue };
            let scopes = Scopes::new(&row.scopes);
            let grant = Grant { token_id: row.id, user_id: row.user_id, scopes, expires_at: row.expires_at };
            grants.insert(TokenDigest(digest), grant);
        }
        Ok(grants)
    }
}

/// The task behind [`Tokens`].
pub(crate) type TokenTask = JointMemoryTask<TokenSource>;

/// Checks tokens.
pub(crate) struct Tokens {
    remembered: Remembered<TokenDigest, Grant>,
}

/// A checker whose reader answers `batch_max` requests by one read, and its task.
pub(crate) fn tokens(pool: Pool, limits: MemoryLimits, batch_max: usize) -> (Tokens, TokenTask) {
    let (remembered, task) = remembered_together(TokenSource { pool }, limits, batch_max);
    (Tokens { remembered }, task)
}

impl Tokens {
    /// What the token grants.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`] for what is no token, is expired or revoked; any other error means that it could not
    /// be found out now.
    pub(crate) async fn check(&self, text: &str) -> Result<Grant, ApiError> {
        let digest = TokenDigest::of(text).ok_or(ApiError::Unauthenticated)?;
        self.remembered.find(digest).await?.ok_or(ApiError::Unauthenticated)
    }
}

/// A token to be issued.
#[derive(Debug)]
pub struct NewToken {
    /// As whom it calls.
    pub user_id: i64,
    /// What it may be used for; at least one.
    pub scopes: Vec<Scope>,
    /// What it is for, in words.
    pub label: Option<String>,
    /// How long it is worth anything.
    pub lifetime: Duration,
}

/// A token that was just issued.
pub struct IssuedToken {
    /// What operators call it.
    pub id: i64,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// The token, for the only time.
    pub text: TokenText,
}

/// Why a token is not issued.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Nobody has this id.
    #[error("a user's id is a positive number")]
    UserId,
    /// It would be good for nothing.
    #[error("a token needs a scope")]
    NoScope,
    /// The label cannot be shown, or not be kept.
    #[error("a label has at most {LABEL_BYTES_MAX} bytes and no control characters")]
    Label,
    /// It would live too long, or not at all.
    #[error("a token lives for at least a second and at most auth.token_lifetime_max")]
    Lifetime,
    /// The operating system gives no random bytes.
    #[error("no random bytes can be had")]
    Randomness(#[source] getrandom::Error),
    /// The database does not answer.
    #[error("the token could not be stored")]
    Store(#[from] StoreError),
}

/// Issues a token.
///
/// # Errors
/// [`TokenError`] says what is wrong with it; nothing is stored then.
pub async fn issue(
    connection: &mut PgConnection,
    new: &NewToken,
    lifetime_max: Duration,
) -> Result<IssuedToken, TokenError> {
    let NewToken { user_id, scopes, label, lifetime } = new;
    if *user_id <= 0 {
        return Err(TokenError::UserId);
    }
    if scopes.is_empty() {
        return Err(TokenError::NoScope);
    }
    let label = label.as_deref();
    if label.is_some_and(|label| label.len() > LABEL_BYTES_MAX || label.chars().any(char::is_control)) {
        return Err(TokenError::Label);
    }
    if !(Duration::from_secs(1)..=lifetime_max).contains(lifetime) {
        return Err(TokenError::Lifetime);
    }
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(TokenError::Randomness)?;
    let text = TokenText::new(&secret);
    let digest = TokenDigest::of(text.reveal()).expect("a token looks like one");
    // Each once, in one order, however often it was named.
    let scopes: Vec<&str> =
        Scope::ALL.into_iter().filter(|scope| scopes.contains(scope)).map(Scope::as_str).collect();
    let (id, expires_at) =
        insert_token(connection, &digest.0, *user_id, &scopes, label, lifetime.as_secs_f64()).await?;
    Ok(IssuedToken { id, expires_at, text })
}

/// Lists at most `limit` tokens, the newest first, of one user or of all.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    connection: &mut PgConnection,
    user_id: Option<i64>,
    limit: u32,
) -> Result<Vec<TokenRow>, StoreError> {
    list_tokens(connection, user_id, limit).await
}

/// Which tokens are revoked.
pub enum Revocation<'a> {
    /// The one that operators call so.
    Id(i64),
    /// All of a user.
    User(i64),
    /// The one with this text.
    Text(&'a str),
}

/// Revokes tokens for ever; those that are revoked stay as they are. Every process refuses them within
/// `auth.token_age_max`.
///
/// # Errors
/// When the database does not answer.
pub async fn revoke(connection: &mut PgConnection, which: Revocation<'_>) -> Result<Revoked, StoreError> {
    let filter = match which {
        Revocation::Id(id) => TokenFilter { id: Some(id), ..TokenFilter::default() },
        Revocation::User(user_id) => TokenFilter { user_id: Some(user_id), ..TokenFilter::default() },
        // What is no token matches none.
        Revocation::Text(text) => TokenFilter { digest: TokenDigest::of(text), ..TokenFilter::default() },
    };
    revoke_tokens(connection, &filter).await
}
