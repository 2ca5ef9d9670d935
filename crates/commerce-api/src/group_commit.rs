//! Group commit: one transaction for all commands of a kind that wait, and an answer for each.
//!
//! - A command is executed at most once, and only if the writer took it before its caller went away: whoever moves its
//!   ticket first decides, the writer by taking it or the caller by withdrawing it.
//! - A command that was taken is executed while anybody of its group waits; callers wait for a limited time, so a transaction
//!   that hangs does not hold up the next group for longer.
//! - The writer takes commands only when it has asked for a transaction, so that while the database is away callers can
//!   withdraw.
//! - The queue is bounded; what does not fit is refused at once.
//! - While one group is being committed the next gathers: the busier the shop, the larger the groups.
//! - What cannot be executed together, because one of the group is in the way of the others or somebody holds a row that it
//!   needs, is executed alone, beside the next groups. A row that stays locked so holds up only those who need it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use runtime::database::Pool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::error::{ApiError, Chain};
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

/// Who decides about a waiting command: whoever moves it out of `WAITING` first.
#[derive(Default)]
struct Ticket(AtomicU8);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Ticket {
    fn decide(&self, state: u8) -> bool {
        self.0.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

struct Pending<G: Group> {
    command: G::Command,
    ticket: Arc<Ticket>,
    answer: oneshot::Sender<G::Answer>,
}

/// No room in the queue, or nobody who works on it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Takes commands for the writer.
pub(crate) struct Queue<G: Group> {
    pending: mpsc::Sender<Pending<G>>,
}

/// A command in the queue. Dropping it withdraws the command if it is still waiting.
pub(crate) struct Waiting<A> {
    ticket: Arc<Ticket>,
    answer: oneshot::Receiver<A>,
}

/// A queue of commands and its writer.
pub(crate) fn group_commit<G: Group>(group: G, pool: Pool, limits: GroupLimits) -> (Queue<G>, Writer<G>) {
    let (sender, pending) = mpsc::channel(limits.queue_max);
    let writer = Writer { group: Arc::new(group), pool, pending, limits, lonely: JoinSet::new() };
    (Queue { pending: sender }, writer)
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

impl<G: Group> Queue<G> {
    /// Hands a command to the writer.
    ///
    /// # Errors
    /// [`Full`]: it is not executed.
    pub(crate) fn submit(&self, command: G::Command) -> Result<Waiting<G::Answer>, Full> {
        let ticket = Arc::new(Ticket::default());
        let (sender, answer) = oneshot::channel();
        let pending = Pending { command, ticket: Arc::clone(&ticket), answer: sender };
        self.pending.try_send(pending).map_err(|_| Full)?;
        Ok(Waiting { ticket, answer })
    }
}

/// Where commands are executed.
pub(crate) enum Desk<G: Group> {
    /// By the writer, together with others.
    Together(Queue<G>),
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

impl<A> Waiting<A> {
    /// The answer; `None` when the writer ended with the command in its hands.
    pub(crate) async fn answer(&mut self) -> Option<A> {
        (&mut self.answer).await.ok()
    }

    /// Whether the command will never be executed; false when the writer has it.
    pub(crate) fn withdraw(&self) -> bool {
        self.ticket.decide(WITHDRAWN)
    }
}

impl<A> Drop for Waiting<A> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The task behind a [`Queue`].
pub(crate) struct Writer<G: Group> {
    group: Arc<G>,
    pool: Pool,
    pending: mpsc::Receiver<Pending<G>>,
    limits: GroupLimits,
    /// Commands that are executed alone.
    lonely: JoinSet<()>,
}

impl<G: Group> Writer<G> {
    /// Writes until the [`Queue`] is gone: until the server has answered its last request.
    ///
    /// # Errors
    /// Never; a failed transaction is the answer of those who wait for it.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let batch_max = self.limits.batch_max;
        let mut batch = Vec::with_capacity(batch_max);
        while self.pending.recv_many(&mut batch, batch_max).await > 0 {
            self.write(&mut batch).await;
            while self.lonely.try_join_next().is_some() {}
        }
        while self.lonely.join_next().await.is_some() {}
        Ok(())
    }

    async fn write(&mut self, batch: &mut Vec<Pending<G>>) {
        let session = Session::begin_waiting(&self.pool, self.limits.lock_wait).await;
        // What arrived while the transaction was being opened goes with it.
        while batch.len() < self.limits.batch_max {
            let Ok(pending) = self.pending.try_recv() else { break };
            batch.push(pending);
        }
        let taken = batch.drain(..).filter(|pending| pending.ticket.decide(TAKEN));
        let (commands, mut callers): (Vec<_>, Vec<_>) =
            taken.map(|pending| (pending.command, pending.answer)).unzip();
        if commands.is_empty() {
            if let Ok(session) = session {
                session.roll_back().await;
            }
            return;
        }
        metrics::group(G::KIND, commands.len());
        let executed = match session {
            Ok(session) => tokio::select! {
                biased;
                executed = self.group.execute(session, &commands) => executed,
                // Dropping the session closes it, and the server ends the transaction.
                () = all_gone(&mut callers), if G::NEEDS_CALLERS => return,
            },
            // No transaction was begun, so each may be told the same.
            Err(error) => Err(GroupError::Unknown(Arc::new(error))),
        };
        let answers: Vec<G::Answer> = match executed {
            Ok(answers) => answers,
            Err(GroupError::Unknown(error)) => {
                commands.iter().map(|_| G::failed(Arc::clone(&error).into())).collect()
            }
            // One of them is to blame, or somebody holds a row, or the server went away, which each of them will be told.
            Err(GroupError::Raced(error) | GroupError::Undone(error)) => {
                let (kind, count) = (G::KIND, commands.len());
                tracing::debug!(error = %Chain(&error), kind, count, "a group is executed one by one");
                return self.execute_singly(commands, callers);
            }
        };
        for (caller, answer) in callers.into_iter().zip(answers) {
            // Fails when the caller went away meanwhile; nobody is left to tell.
            let _ = caller.send(answer);
        }
    }

    /// Begins to execute commands alone; the pool says how many at once.
    fn execute_singly(&mut self, commands: Vec<G::Command>, callers: Vec<oneshot::Sender<G::Answer>>) {
        for (command, mut caller) in commands.into_iter().zip(callers) {
            let (group, pool) = (Arc::clone(&self.group), self.pool.clone());
            self.lonely.spawn(async move {
                tokio::select! {
                    biased;
                    answer = execute_alone(&*group, &pool, &command) => drop(caller.send(answer)),
                    () = caller.closed(), if G::NEEDS_CALLERS => {}
                }
            });
        }
    }
}

async fn all_gone<A>(callers: &mut [oneshot::Sender<A>]) {
    for caller in callers {
        caller.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::{TAKEN, Ticket, WITHDRAWN};

    #[test]
    fn either_the_writer_or_the_caller_has_a_ticket() {
        for _ in 0..2_000 {
            let ticket = Arc::new(Ticket::default());
            let deciders = [TAKEN, WITHDRAWN].map(|state| {
                let ticket = Arc::clone(&ticket);
                thread::spawn(move || ticket.decide(state))
            });
            let decided = deciders.map(|decider| decider.join().unwrap());
            assert_eq!(decided.into_iter().filter(|decided| *decided).count(), 1);
            assert!(!ticket.decide(TAKEN) && !ticket.decide(WITHDRAWN));
        }
    }
}
