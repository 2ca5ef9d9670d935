//! Sessions of the storefront: a browser that showed a token is its user until it signs out.
//!
//! Invariants: nobody can tell a cookie from what is stored; a session begins with a new secret, so that nobody can know it
//! before; it ends when its token is revoked or expires, and every process sees that within `auth.token_age_max`, as with
//! tokens themselves. The routes of the api know nothing of sessions.

use std::collections::HashMap;

use runtime::database::Pool;

use crate::batch_reader::{Loaded, Source};
use crate::domain::secret::{Secret, SecretDigest};
use crate::error::ApiError;
use crate::remembered::{JointMemoryTask, MemoryLimits, Remembered, remembered_together};
use crate::settings::SessionSettings;
use crate::store::Session;
use crate::store::sessions::{
    delete_session, delete_superfluous_sessions, insert_session, list_living_sessions,
};

/// Users of sessions from the shop's database.
pub(crate) struct SessionSource {
    pool: Pool,
}

impl Source for SessionSource {
    type Key = SecretDigest;
    type Value = i64;

    async fn load(&self, digests: &[SecretDigest]) -> Loaded<SecretDigest, i64> {
        let asked: Vec<&[u8]> = digests.iter().map(|digest| &digest.0[..]).collect();
        let mut session = Session::open(&self.pool).await?;
        let rows = list_living_sessions(&mut session, &asked).await?;
        session.release();
        // The column has a constraint: each digest is one.
        let user = |(digest, user_id): (Vec<u8>, i64)| Some((SecretDigest(digest.try_into().ok()?), user_id));
        Ok(rows.into_iter().filter_map(user).collect::<HashMap<_, _>>())
    }
}

/// The task behind [`Sessions`].
pub(crate) type SessionTask = JointMemoryTask<SessionSource>;

/// Begins, finds and ends sessions.
pub(crate) struct Sessions {
    pool: Pool,
    settings: SessionSettings,
    remembered: Remembered<SecretDigest, i64>,
}

/// Sessions whose reader answers `batch_max` requests by one read, and its task.
pub(crate) fn sessions(
    pool: Pool,
    settings: SessionSettings,
    limits: MemoryLimits,
    batch_max: usize,
) -> (Sessions, SessionTask) {
    let source = SessionSource { pool: pool.clone() };
    let (remembered, task) = remembered_together(source, limits, batch_max);
    (Sessions { pool, settings, remembered }, task)
}

impl Sessions {
    /// The user whose session has this secret; `None` when there is none, or it has ended.
    ///
    /// # Errors
    /// When it cannot be found out now.
    pub(crate) async fn find(&self, secret: &Secret) -> Result<Option<i64>, ApiError> {
        self.remembered.find(secret.digest()).await
    }

    /// Begins a session for a token, in the place of the browser's earlier one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn begin(&self, token_id: i64, earlier: Option<&Secret>) -> Result<Secret, ApiError> {
        let secret = Secret::random().map_err(|error| ApiError::Internal(error.into()))?;
        let earlier = earlier.map(Secret::digest);
        let earlier = earlier.as_ref().map(|digest| &digest.0[..]);
        let lifetime = self.settings.lifetime.as_secs_f64();
        let kept_max = i64::from(self.settings.per_token_max);
        let mut session = Session::begin(&self.pool).await?;
        insert_session(&mut session, &secret.digest().0, token_id, lifetime, earlier).await?;
        delete_superfluous_sessions(&mut session, token_id, kept_max).await?;
        session.commit().await?;
        Ok(secret)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn end(&self, secret: &Secret) -> Result<(), ApiError> {
        let mut session = Session::open(&self.pool).await?;
        delete_session(&mut session, &secret.digest().0).await?;
        session.release();
        Ok(())
    }
}
