//! Views of product pages, recorded by group commit.
//!
//! What the page says about its view (`View-Recorded`) is exact:
//! - `true`: the view's event is committed;
//! - `false`: it is not and never will be — none is (`api.views_recorded`), there was no room in the queue, it was withdrawn
//!   before the writer took it, or its transaction was rolled back;
//! - `unknown`: the writer took it and its commit did not end in time, or its end is not known (the connection broke).
//!
//! A database that is slow or away delays a page by `api.view_wait` and no more, unless `api.view_commit_wait` is set.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtime::database::Pool;

use crate::commands::Shop;
use crate::commands::record_views::record_views;
use crate::error::ApiError;
use crate::group_commit::{Group, GroupError, Writer, group_commit};
use crate::hand_over::Queue;
use crate::metrics::ViewMetrics;
use crate::settings::ApiSettings;
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

/// Views that wait.
pub(crate) struct ViewGroup(pub(crate) Arc<Shop>);

impl Group for ViewGroup {
    const KIND: &'static str = "view";
    const NEEDS_CALLERS: bool = false;
    type Command = View;
    type Answer = Recorded;

    async fn execute(&self, session: Session, views: &[View]) -> Result<Vec<Recorded>, GroupError> {
        Ok(vec![record_views(&self.0, session, views).await; views.len()])
    }

    fn failed(error: ApiError) -> Recorded {
        tracing::debug!(%error, "a view is not recorded");
        Recorded::No
    }
}

/// Records views within the waits of the settings.
pub(crate) struct ViewRecorder {
    /// Whether views are recorded at all.
    is_on: bool,
    queue: Queue<View, Recorded>,
    /// For the commit.
    wait: Duration,
    /// More of it, when the writer has taken the view.
    commit_wait: Duration,
    metrics: ViewMetrics,
}

/// Records views by a writer in `pool`, which is the task.
pub(crate) fn views(
    shop: Arc<Shop>,
    pool: Pool,
    settings: &ApiSettings,
) -> (ViewRecorder, Writer<ViewGroup>) {
    let (queue, task) = group_commit(ViewGroup(shop), pool, settings.view_group_limits());
    let (wait, commit_wait) = (settings.view_wait, settings.view_commit_wait);
    let metrics = ViewMetrics::new();
    (ViewRecorder { is_on: settings.views_recorded, queue, wait, commit_wait, metrics }, task)
}

impl ViewRecorder {
    /// Hands the view to the writer and tells what became of it.
    pub(crate) async fn record(&self, view: View) -> Recorded {
        let recorded = self.hand_over(view).await;
        self.metrics.told(recorded);
        recorded
    }

    async fn hand_over(&self, view: View) -> Recorded {
        if !self.is_on {
            return Recorded::No;
        }
        let Ok(mut waiting) = self.queue.submit(view) else { return Recorded::No };
        let early = tokio::time::timeout(self.wait, waiting.answer()).await;
        if let Ok(Some(outcome)) = early {
            return outcome;
        }
        if waiting.withdraw() {
            return Recorded::No;
        }
        if early.is_ok() {
            // The writer ended with the view in its hands.
            return Recorded::Unknown;
        }
        match tokio::time::timeout(self.commit_wait, waiting.answer()).await {
            Ok(outcome) => outcome.unwrap_or(Recorded::Unknown),
            Err(_elapsed) => Recorded::Unknown,
        }
    }
}
