//! A pooled connection that is given back only in a known state.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use runtime::database::{Manager, Pool};
use sqlx::PgConnection;

use super::StoreError;

/// A connection, or a transaction on it.
///
/// Only [`Self::release`], [`Self::commit`] and [`Self::roll_back`] give the connection back. A session that is
/// dropped in any other way — an error, a cancelled request — closes it: the server then ends the transaction by
/// itself, instead of holding its row locks until the connection happens to be used again.
pub(crate) struct Session {
    object: Option<deadpool::managed::Object<Manager>>,
}

impl Session {
    /// Takes a connection.
    ///
    /// # Errors
    /// [`StoreError::Busy`] or [`StoreError::Away`].
    pub(crate) async fn open(pool: &Pool) -> Result<Self, StoreError> {
        Ok(Self { object: Some(pool.get().await?) })
    }

    /// Takes a connection and begins a transaction.
    ///
    /// # Errors
    /// As [`Self::open`], and when the server refuses.
    pub(crate) async fn begin(pool: &Pool) -> Result<Self, StoreError> {
        let mut session = Self::open(pool).await?;
        sqlx::raw_sql("begin").execute(&mut *session).await?;
        Ok(session)
    }

    /// As [`Self::begin`]; a statement of the transaction that waits longer for a lock fails.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(crate) async fn begin_waiting(pool: &Pool, lock_wait: Duration) -> Result<Self, StoreError> {
        let mut session = Self::open(pool).await?;
        let millis = lock_wait.as_millis().max(1);
        let begin = format!("begin; set local lock_timeout = '{millis}ms'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *session).await?;
        Ok(session)
    }

    /// Commits.
    ///
    /// # Errors
    /// [`StoreError::Away`] leaves open whether it committed; every other error means that it did not.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("commit").execute(&mut *self).await?;
        self.release();
        Ok(())
    }

    /// Gives up the changes and keeps the connection: for a request that is refused in the ordinary course. When even
    /// that fails, the connection is closed, which has the same effect.
    pub(crate) async fn roll_back(mut self) {
        if sqlx::raw_sql("rollback").execute(&mut *self).await.is_ok() {
            self.release();
        }
    }

    /// Gives the connection back after reading.
    pub(crate) fn release(mut self) {
        drop(self.object.take());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(deadpool::managed::Object::take(object));
        }
    }
}

impl Deref for Session {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        self.object.as_ref().expect("present until the session is consumed")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.object.as_mut().expect("present until the session is consumed")
    }
}
