//! Group commit: one transaction for all commands of a kind that wait, and an answer for each.
//!
//! - A command is executed at most once, and only if the writer took it before its caller went away ([`crate::hand_over`]).
//! - A command that was taken is executed while anybody of its group waits; callers wait for a limited time, so a transaction
//!   that hangs does not hold up the next group for longer.
//! - The writer takes commands only when it has asked for a transaction, so that while the database is away callers can
//!   withdraw.
//! - While one group is being committed the next gathers: the busier the shop, the larger the groups.
//! - What cannot be executed together, because one of the group is in the way of the others or somebody holds a row that it
//!   needs, is executed alone, beside the next groups. A row that stays locked so holds up only those who need it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use runtime::database::Pool;
use tokio::task::JoinSet;

use crate::error::{ApiError, Chain};
use crate::hand_over::{Arrivals, Caller, Full, Queue, Taken, hand_over};
use crate::metrics;
use crate::store::{Session, StoreError};

/// Commands of one kind, and how a group of them is executed.
pub(crate) trait Group: Send + Sync + 'static {
    /// The kind, as a metric's label.
    const KIND: &'static str;
    /// Whether a group is given up when all its callers have gone away. If not, it is executed for nobody.
    const NEEDS_CALLERS: bool;
    /// What is asked for.
    type Command: Send + Sync + 'static;
    /// What a caller is told.
    type Answer: Send + 'static;

    /// Executes commands in the order of their arrival, in the transaction of `session`; answers each, in the same order.
    fn execute(
        &self,
        session: Session,
        commands: &[Self::Command],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, GroupError>> + Send;

    /// The answer to a command that failed.
    fn failed(error: ApiError) -> Self::Answer;
}

/// Why a group of commands has no answers.
pub(crate) enum GroupError {
    /// Nothing of it happened. Somebody else was faster with what it was decided on: the same again sees that.
    Raced(ApiError),
    /// Nothing of it happened.
    Undone(ApiError),
    /// Whether it happened is not known.
    Unknown(Arc<StoreError>),
}

impl<E: Into<ApiError>> From<E> for GroupError {
    fn from(error: E) -> Self {
        Self::Undone(error.into())
    }
}

impl GroupError {
    /// For a command that was alone.
    pub(crate) fn into_error(self) -> ApiError {
        match self {
            Self::Raced(error) | Self::Undone(error) => error,
            Self::Unknown(error) => error.into(),
        }
    }
}

/// Executes one command in a transaction of its own, which waits for locks as long as a statement may.
async fn execute_alone<G: Group>(group: &G, pool: &Pool, command: &G::Command) -> G::Answer {
    let execute = async || {
        let session = Session::begin(pool).await?;
        group.execute(session, std::slice::from_ref(command)).await
    };
    let mut executed = execute().await;
    if let Err(GroupError::Raced(_)) = executed {
        executed = execute().await;
    }
    let none = || G::failed(ApiError::Internal("a command has no answer".into()));
    match executed {
        Ok(answers) => answers.into_iter().next().unwrap_or_else(none),
        Err(error) => G::failed(error.into_error()),
    }
}

/// A queue of commands and its writer.
pub(crate) fn group_commit<G: Group>(
    group: G,
    pool: Pool,
    limits: GroupLimits,
) -> (Queue<G::Command, G::Answer>, Writer<G>) {
    let (queue, arrivals) = hand_over(limits.queue_max, limits.batch_max);
    let group = Arc::new(group);
    (queue, Writer { group, pool, arrivals, lock_wait: limits.lock_wait, lonely: JoinSet::new() })
}

/// The limits of a kind of commands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupLimits {
    /// Commands that wait.
    pub(crate) queue_max: usize,
    /// Commands of one transaction.
    pub(crate) batch_max: usize,
    /// How long a group waits for a row that somebody else has locked, before its commands are executed alone.
    pub(crate) lock_wait: Duration,
}

/// Where commands are executed.
pub(crate) enum Desk<G: Group> {
    /// By the writer, together with others.
    Together(Queue<G::Command, G::Answer>),
    /// In the caller's task, each on a connection of its own.
    Alone { group: G, pool: Pool },
}

/// As [`group_commit`]; without a writer if groups have 0 commands, and each is executed alone.
pub(crate) fn desk<G: Group>(group: G, pool: Pool, limits: GroupLimits) -> (Desk<G>, Option<Writer<G>>) {
    if limits.batch_max == 0 {
        return (Desk::Alone { group, pool }, None);
    }
    let (queue, writer) = group_commit(group, pool, limits);
    (Desk::Together(queue), Some(writer))
}

impl<G: Group<Answer = Result<A, ApiError>>, A> Desk<G> {
    /// Has a command executed; its answer is the caller's.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] when the queue is full; otherwise what became of the command.
    pub(crate) async fn call(&self, command: G::Command) -> Result<A, ApiError> {
        match self {
            Self::Together(queue) => {
                let mut waiting = queue.submit(command).map_err(|Full| ApiError::Overloaded)?;
                let lost = || ApiError::Internal("a command has no answer".into());
                waiting.answer().await.ok_or_else(lost)?
            }
            Self::Alone { group, pool } => execute_alone(group, pool, &command).await,
        }
    }
}

/// The task behind a [`Queue`].
pub(crate) struct Writer<G: Group> {
    group: Arc<G>,
    pool: Pool,
    arrivals: Arrivals<G::Command, G::Answer>,
    lock_wait: Duration,
    /// Commands that are executed alone.
    lonely: JoinSet<()>,
}

impl<G: Group> Writer<G> {
    /// Writes until the [`Queue`] is gone: until the server has answered its last request.
    ///
    /// # Errors
    /// Never; a failed transaction is the answer of those who wait for it.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        while self.arrivals.wait().await {
            self.write().await;
            while self.lonely.try_join_next().is_some() {}
        }
        while self.lonely.join_next().await.is_some() {}
        Ok(())
    }

    async fn write(&mut self) {
        let session = Session::begin_waiting(&self.pool, self.lock_wait).await;
        // What arrived while the transaction was being opened goes with it.
        let mut taken = self.arrivals.take();
        if taken.commands.is_empty() {
            if let Ok(session) = session {
                session.roll_back().await;
            }
            return;
        }
        let (kind, count) = (G::KIND, taken.commands.len());
        metrics::group(kind, count);
        let executed = match session {
            Ok(session) => tokio::select! {
                biased;
                executed = self.group.execute(session, &taken.commands) => executed,
                // Dropping the session closes it, and the server ends the transaction.
                () = all_gone(&mut taken.callers), if G::NEEDS_CALLERS => return,
            },
            // No transaction was begun, so each may be told the same.
            Err(error) => Err(GroupError::Unknown(Arc::new(error))),
        };
        match executed {
            Ok(answers) => taken.answer(answers),
            Err(GroupError::Unknown(error)) => {
                taken.answer((0..count).map(|_| G::failed(Arc::clone(&error).into())).collect());
            }
            // One of them is to blame, or somebody holds a row, or the server went away, which each of them will be told.
            Err(GroupError::Raced(error) | GroupError::Undone(error)) => {
                tracing::debug!(error = %Chain(&error), kind, count, "a group is executed one by one");
                self.execute_singly(taken);
            }
        }
    }

    /// Begins to execute commands alone; the pool says how many at once.
    fn execute_singly(&mut self, taken: Taken<G::Command, G::Answer>) {
        for (command, mut caller) in taken.singly() {
            let (group, pool) = (Arc::clone(&self.group), self.pool.clone());
            self.lonely.spawn(async move {
                tokio::select! {
                    biased;
                    answer = execute_alone(&*group, &pool, &command) => caller.answer(answer),
                    () = caller.gone(), if G::NEEDS_CALLERS => {}
                }
            });
        }
    }
}

async fn all_gone<A>(callers: &mut [Caller<A>]) {
    for caller in callers {
        caller.gone().await;
    }
}
