//! Group commit of product views: one transaction for all that wait.
//!
//! What the page says about its view (`View-Recorded`) is exact:
//! - `true`: the view's event is committed;
//! - `false`: it is not and never will be — there was no room in the queue, it was withdrawn before the writer took
//!   it, or its transaction was rolled back;
//! - `unknown`: the writer took it and its commit did not end in time, or its end is not known (the connection broke).
//!
//! The writer takes views only when it holds an open transaction, so a database that is away delays a page by
//! `api.view_wait` and no more.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use crate::commands::Shop;
use crate::commands::record_views::{append_views, commit_views};
use crate::error::Chain;
use crate::metrics;
use crate::store::Session;

/// A page that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) product_id: i64,
    pub(crate) user_id: Option<i64>,
    pub(crate) viewed_at: DateTime<Utc>,
    pub(crate) traceparent: Option<String>,
}

/// What became of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Committed.
    Yes,
    /// Not recorded, and never will be.
    No,
    /// Perhaps.
    Unknown,
}

impl Recorded {
    /// The value of `View-Recorded`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "true",
            Self::No => "false",
            Self::Unknown => "unknown",
        }
    }
}

/// Who decides about a waiting view: whoever moves it out of `WAITING` first.
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

struct Pending {
    view: View,
    ticket: Arc<Ticket>,
    outcome: oneshot::Sender<Recorded>,
}

/// Withdraws a view that is still waiting when its page is given up.
struct Withdrawal(Arc<Ticket>);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.decide(WITHDRAWN);
    }
}

/// Takes views for the writer.
pub(crate) struct ViewQueue {
    pending: mpsc::Sender<Pending>,
    wait: Duration,
    commit_wait: Duration,
}

impl ViewQueue {
    /// Hands the view to the writer and tells what became of it, within the two waits.
    pub(crate) async fn record(&self, view: View) -> Recorded {
        let recorded = self.hand_over(view).await;
        metrics::view(recorded);
        recorded
    }

    async fn hand_over(&self, view: View) -> Recorded {
        let ticket = Arc::new(Ticket::default());
        let (outcome, mut decided) = oneshot::channel();
        let pending = Pending { view, ticket: Arc::clone(&ticket), outcome };
        if self.pending.try_send(pending).is_err() {
            return Recorded::No;
        }
        let withdrawal = Withdrawal(ticket);
        let early = tokio::time::timeout(self.wait, &mut decided).await;
        if let Ok(Ok(outcome)) = early {
            return outcome;
        }
        if withdrawal.0.decide(WITHDRAWN) {
            return Recorded::No;
        }
        if early.is_ok() {
            // The writer ended with the view in its hands.
            return Recorded::Unknown;
        }
        match tokio::time::timeout(self.commit_wait, decided).await {
            Ok(outcome) => outcome.unwrap_or(Recorded::Unknown),
            Err(_elapsed) => Recorded::Unknown,
        }
    }
}

/// The task behind a [`ViewQueue`].
pub(crate) struct ViewWriter {
    shop: Arc<Shop>,
    pending: mpsc::Receiver<Pending>,
    batch_max: usize,
}

/// A queue of `queue_max` views whose pages wait as said, and its writer.
pub(crate) fn view_writer(
    shop: Arc<Shop>,
    queue_max: usize,
    batch_max: usize,
    wait: Duration,
    commit_wait: Duration,
) -> (ViewQueue, ViewWriter) {
    let (sender, pending) = mpsc::channel(queue_max);
    (ViewQueue { pending: sender, wait, commit_wait }, ViewWriter { shop, pending, batch_max })
}

impl ViewWriter {
    /// Writes until the [`ViewQueue`] is gone: until the server has answered its last request.
    ///
    /// # Errors
    /// Never; a failed transaction is the answer of those who wait for it.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let mut batch = Vec::with_capacity(self.batch_max);
        while self.pending.recv_many(&mut batch, self.batch_max).await > 0 {
            self.write(&mut batch).await;
        }
        Ok(())
    }

    async fn write(&mut self, batch: &mut Vec<Pending>) {
        let session = Session::begin(&self.shop.pool).await;
        // What arrived while the transaction was being opened goes with it.
        while batch.len() < self.batch_max {
            let Ok(pending) = self.pending.try_recv() else { break };
            batch.push(pending);
        }
        let taken: Vec<Pending> = batch.drain(..).filter(|pending| pending.ticket.decide(TAKEN)).collect();
        let outcome = match session {
            Ok(session) => self.commit(session, &taken).await,
            Err(error) => {
                tracing::debug!(%error, "views are not recorded");
                Recorded::No
            }
        };
        for pending in taken {
            // Fails when the page was given up meanwhile; nobody is left to tell.
            let _ = pending.outcome.send(outcome);
        }
    }

    async fn commit(&self, mut session: Session, taken: &[Pending]) -> Recorded {
        if taken.is_empty() {
            session.roll_back().await;
            return Recorded::No;
        }
        metrics::view_batch(taken.len());
        let views: Vec<&View> = taken.iter().map(|pending| &pending.view).collect();
        match append_views(&self.shop, &mut session, &views).await {
            Ok(()) => commit_views(&self.shop, session).await,
            Err(error) => {
                // Dropping the session ends its transaction without a commit.
                tracing::warn!(error = %Chain(&error), "views are not recorded");
                Recorded::No
            }
        }
    }
}
